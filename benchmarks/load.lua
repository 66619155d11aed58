-- One request after another to runs with different IDs, and every answer checked.
-- Environment: OPERATION (get, list, delete), FIRST (number of the first run), TOKEN.
local operation = os.getenv("OPERATION")
local number = tonumber(os.getenv("FIRST") or "0")
local runs = tonumber(os.getenv("RUNS") or "1")
local headers = { ["Authorization"] = "Bearer " .. os.getenv("TOKEN") }
local expected = operation == "delete" and 204 or 200
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init(args)
    wrong = 0
end

function request()
    if operation == "list" then
        return wrk.format("GET", "/v2/actor-runs?limit=1000", headers)
    end
    local path = string.format("/v2/actor-runs/bench%012d", number)
    number = (number + 1) % runs
    if operation == "get" then
        return wrk.format("GET", path, headers)
    end
    return wrk.format("DELETE", path, headers)
end

function response(status, _, body)
    if status ~= expected then
        wrong = wrong + 1
    end
end

function done(summary, latency, requests)
    local unexpected = 0
    for _, thread in ipairs(threads) do
        unexpected = unexpected + thread:get("wrong")
    end
    io.write(string.format(
        "RESULT %d %d %d %d %d\n",
        summary.requests, summary.duration, unexpected + summary.errors.connect
            + summary.errors.read + summary.errors.write + summary.errors.timeout,
        latency:percentile(50), latency:percentile(99)
    ))
end
