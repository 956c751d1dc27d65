-- What leaves the edge is JSON over HTTP, and an error is a problem (RFC 9457).
--
-- Filters see a response in reverse order, so envoy_on_response runs after the transcoder. On success it looks at three
-- headers and never at the body. The renderer puts the table PROBLEMS (status -> {title, detail, type}) before this text.

local INTERNAL = {
  "grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-accept-encoding", "grpc-encoding", "x-problem-json",
  "x-http-status",
}

local LONGEST = 4096 -- bytes of a problem, as in mesh.errors

-- `reset`, if it is whole seconds, tells when to try again; only a caller who has used up a limit is told.
local function document(status, reset)
  local known = PROBLEMS[status] or PROBLEMS["500"]
  local when = ""
  if status == "429" and reset ~= nil and string.find(reset, "^%d+$") then
    when = string.format(',"reset":%s', reset)
  end
  return string.format(
    '{"title":"%s","detail":"%s","type":"%s","status":%s%s,"errors":[{"message":"%s"}]}',
    known[1], known[2], known[3], status, when, known[2])
end

-- The document's own status, so that status line and body agree; nil where it has none. A quote inside of a JSON string
-- is escaped, so this does not match inside of the detail.
local function stated(problem)
  return string.match(problem, '"status":%s*([45]%d%d)%s*[,}]')
end

local function unescape(text)
  return (string.gsub(text, "%%(%x%x)", function(code) return string.char(tonumber(code, 16)) end))
end

-- What the reader of JSON says of a scalar where an object belongs names the contract's message.
local function public(text)
  return (string.gsub(text, " for type type%.googleapis%.com/[%w_.]+", ""))
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get(":status")
  local form = headers:get("content-type")
  local grpc = form ~= nil and string.sub(form, 1, 16) == "application/grpc"

  if not grpc and string.find(status, "^[23]") then
    local chosen = headers:get("x-http-status")
    if chosen ~= nil then
      headers:remove("x-http-status")
      if string.find(chosen, "^20[0-6]$") or chosen == "302" or chosen == "303" then
        headers:replace(":status", chosen)
      end
    end
    headers:remove("grpc-status")
    headers:remove("grpc-message")
    headers:remove("grpc-accept-encoding")
    return
  end

  local problem
  if grpc then
    -- Envoy refused a request that had gRPC's content type, and so in gRPC's form: its answer to others is the message.
    problem = public(unescape(headers:get("grpc-message") or ""))
    status = stated(problem)
    if status == nil then
      status = "500"
      problem = document(status)
    end
  elseif form == "application/problem+json" then
    -- Envoy's own, made by local_reply_config, and left as it is but for three cases: 429 lacks the time to come back.
    local why = headers:get("x-rookery-details")
    if why ~= nil then
      headers:remove("x-rookery-details")
    end
    if why ~= nil and string.find(why, "Jwks_remote_fetch", 1, true) then
      status = "503" -- no keys yet, which is no fault of the token's
      headers:remove("www-authenticate")
    elseif status ~= "400" and status ~= "429" then
      return
    elseif status == "400" and tonumber(headers:get("content-length") or "0") <= LONGEST then
      local body = handle:body(true)
      body:setBytes(public(body:getBytes(0, body:length())))
      return
    end -- or it repeats a value of the request, which may be as long as a body
    problem = document(status, headers:get("x-rate-limit-reset"))
  else
    problem = headers:get("x-problem-json")
    if problem ~= nil then
      status = stated(problem) or status
    else
      if status == "499" then
        status = "503" -- CANCELLED by a service while this caller still waits
      end
      problem = document(status, headers:get("x-rate-limit-reset"))
    end
  end

  -- Headers first: they may be on their way once body() was called.
  headers:replace(":status", status)
  headers:replace("content-type", "application/problem+json")
  for _, name in ipairs(INTERNAL) do
    headers:remove(name)
  end
  if status == "401" and headers:get("www-authenticate") == nil then
    headers:add("www-authenticate", "Bearer")
  end
  handle:body(true):setBytes(problem)
end
