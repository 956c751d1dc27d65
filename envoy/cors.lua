-- Pages of listed origins may call (Fetch standard, CORS protocol). Envoy's own filter passes over requests whose route
-- is no cluster's, and so is each one here until it was transcoded: it would see no preflight and no refusal.
--
-- Nothing is ever granted to cookies: there is no Access-Control-Allow-Credentials. The renderer puts the table ORIGINS
-- (origin -> true, or "*" -> true) before this text.

local ANY = ORIGINS["*"] == true
local NAME = "rookery.cors"
local METHODS = "GET, POST, PUT, PATCH, DELETE"
local HEADERS = "authorization, content-type"
local EXPOSED = "x-request-id, x-rate-limit-limit, x-rate-limit-remaining, x-rate-limit-reset, retry-after, www-authenticate"

function envoy_on_request(handle)
  local headers = handle:headers()
  local origin = headers:get("origin")
  if origin == nil or not (ANY or ORIGINS[origin]) then
    return
  end
  handle:streamInfo():dynamicMetadata():set(NAME, "origin", ANY and "*" or origin)
  if headers:get(":method") == "OPTIONS" and headers:get("access-control-request-method") ~= nil then
    handle:respond({
      [":status"] = "204",
      ["access-control-allow-methods"] = METHODS,
      ["access-control-allow-headers"] = HEADERS,
      ["access-control-max-age"] = "600",
    }, "")
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if not ANY then -- an answer to another origin is another one
    headers:add("vary", "origin")
  end
  local found = handle:streamInfo():dynamicMetadata():get(NAME)
  if found ~= nil then
    headers:replace("access-control-allow-origin", found["origin"])
    headers:replace("access-control-expose-headers", EXPOSED)
  end
end
