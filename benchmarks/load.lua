-- One request after another, to runs with different IDs, and every answer checked.
-- Environment: OPERATION (GET, LIST, DELETE, or MIXED), FIRST (number of the first run), RUNS.
local kinds = { os.getenv("OPERATION") }
local number = tonumber(os.getenv("FIRST"))
local runs = tonumber(os.getenv("RUNS"))
local threads = {}

if kinds[1] == "MIXED" then
    kinds = { "LIST" }
    for _ = 1, 6 do table.insert(kinds, "DELETE") end
    for _ = 1, 13 do table.insert(kinds, "GET") end
end

-- What the body of each answer holds; with or without a blank, as each peer writes JSON.
local expected = {
    GET = { 200, '"id": ?"bench%d+"' },
    LIST = { 200, '"total": ?1000[,}].*"id": ?"lists0+999"' },
    DELETE = { 204, '^$' },
}

function setup(thread)
    table.insert(threads, thread)
end

function init(args)
    wrong = 0
    sent = 0
end

function request()
    sent = sent + 1
    local kind = kinds[number % #kinds + 1]
    local path = string.format("/v2/actor-runs/bench%012d", number)
    number = (number + 1) % runs
    if kind == "LIST" then
        local headers = { ["Authorization"] = "Bearer bench-token-list" }
        return wrk.format("GET", "/v2/actor-runs?limit=1000", headers)
    end
    return wrk.format(kind, path, { ["Authorization"] = "Bearer bench-token-many" })
end

function response(status, _, body)
    for _, kind in ipairs(kinds) do
        if status == expected[kind][1] and string.find(body, expected[kind][2]) then
            return
        end
    end
    wrong = wrong + 1
end

function done(summary, latency, requests)
    local unexpected, sent = 0, 0
    for _, thread in ipairs(threads) do
        unexpected = unexpected + thread:get("wrong")
        sent = sent + thread:get("sent")
    end
    io.write(string.format(
        "RESULT %d %d %d %d %d %d\n",
        sent, summary.requests, summary.duration, unexpected + summary.errors.connect
            + summary.errors.read + summary.errors.write + summary.errors.timeout,
        latency:percentile(50), latency:percentile(99)
    ))
end
