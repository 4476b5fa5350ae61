-- Calls for wrk: each consumer's key in turn, to the API that the consumer is subscribed to.
--
-- Requests are made once, before the measurement, so that the load maker costs the same for all.

local requests = {}
local next_request = 0

function init(arguments)
  local routes = tonumber(arguments[2])
  local number = 0
  for key in io.lines(arguments[1]) do
    local path = string.format("/api-%03d/patients/%d", number % routes, number)
    local headers = { ["X-API-Key"] = key, ["Accept"] = "application/json", ["User-Agent"] = "wrk" }
    requests[#requests + 1] = wrk.format("GET", path, headers)
    number = number + 1
  end
end

function request()
  -- A stride that is prime to the number of keys visits them all, and neighbours are far apart.
  next_request = (next_request + 7919) % #requests
  return requests[next_request + 1]
end
