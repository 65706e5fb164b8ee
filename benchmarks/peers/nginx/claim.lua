-- A claim endpoint inside nginx: one EVALSHA a claim over a connection of the worker's keepalive pool.
-- `settings` is a global that init_by_lua_block sets once; nothing writes it later.
local redis = require "nginx.redis"

local packet_id = ngx.var.packet_id
local user_id = ngx.var.http_x_user_id
ngx.header.content_type = "application/json"
if not user_id then
    ngx.status = 400
    return ngx.say('{"error":"X-User-Id is missing"}')
end

local client = redis:new()
client:set_timeout(5000)
local ok, failure = client:connect("127.0.0.1", settings.redis_port)
if not ok then
    ngx.status = 503
    return ngx.say('{"error":"' .. failure .. '"}')
end

local tag = "{hongbao:" .. string.sub(packet_id, 3, 5) .. "}"
local function grab(command, script)
    return client[command](client, script, 4, tag .. ":packet:" .. packet_id, tag .. ":shares:" .. packet_id,
        tag .. ":claims:" .. packet_id, tag .. ":events", packet_id, user_id)
end
local reply
reply, failure = grab("evalsha", settings.grab_sha)
if not reply and failure and string.find(failure, "NOSCRIPT", 1, true) then
    reply, failure = grab("eval", settings.grab_lua)
end
if not reply then
    ngx.status = 503
    return ngx.say('{"error":"' .. tostring(failure) .. '"}')
end
client:set_keepalive(10000, 256)
if reply[1] == "missing" then
    ngx.status = 404
    return ngx.say('{"error":"no such packet"}')
end
ngx.print('{"outcome":"', reply[1], '","amount_fen":', reply[2], ',"packet_id":"', packet_id, '","user_id":"', user_id, '"}')
