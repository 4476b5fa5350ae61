-- Calls for wrk: each line is a key and the path that it may call. Made once, before the measurement.

local requests = {}
local next_request = 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    local key, path = line:match("^(%S+) (%S+)$")
    local headers = { ["X-API-Key"] = key, ["Accept"] = "application/json", ["User-Agent"] = "wrk" }
    requests[#requests + 1] = wrk.format("GET", path .. "/patients/7", headers)
  end
end

function request()
  -- A stride that is prime to the number of keys visits them all, and neighbours are far apart.
  next_request = (next_request + 7919) % #requests
  return requests[next_request + 1]
end
