// The official client of npm in a process of its own: node client.mjs URL
//
// Reads calls from standard input, one JSON object a line, and prints what each returned or
// raised, as one JSON object a line.

import process from 'node:process';
import { createInterface } from 'node:readline';

import { ApifyApiError, ApifyClient } from 'apify-client';

const baseUrl = process.argv[2];

// JSON has no times: they come as {"time": "..."}.
const argumentOf = (value) => (value?.time ? new Date(value.time) : value);

async function perform({ token, method, run, options, iterate, retries }) {
    const client = new ApifyClient({
        token: token ?? undefined,
        baseUrl,
        maxRetries: retries,
        minDelayBetweenRetriesMillis: 1,
    });
    const target = run === null ? client.runs() : client.run(run);
    if (options === null) return target[method]();
    const given = Object.fromEntries(
        Object.entries(options).map(([name, value]) => [name, argumentOf(value)]),
    );
    const result = target[method](given);
    if (!iterate) return result;
    const items = [];
    for await (const item of result) items.push(item);
    return items;
}

for await (const line of createInterface({ input: process.stdin })) {
    let report;
    try {
        report = { result: (await perform(JSON.parse(line))) ?? null };
    } catch (error) {
        if (!(error instanceof ApifyApiError)) throw error;
        const { name, statusCode, type, message, attempt } = error;
        report = { raised: { name, statusCode, type, message, attempt } };
    }
    process.stdout.write(`${JSON.stringify(report)}\n`);
}
