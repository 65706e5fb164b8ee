--[[
forget.lua: let packets go after a while, because the ledger has their ends: what they were, their claims, their recipients.

It is safe to repeat. It needs no epoch: a packet that has ended never comes back.

KEYS
  three per packet: packet, claims, recipients (at most 250 packets per call)
ARGV
  1 retention_ms  how long they are kept from now on

REPLIES, in order of precedence
  {"MALFORMED"}  not of the form above, or too many packets; nothing was done
  {"FORGOTTEN"}  they go then

EVENTS
  none
]]
local retention_ms = ARGV[1]

if #KEYS % 3 ~= 0 or #KEYS > 750 or not tonumber(retention_ms) then return {'MALFORMED'} end
for key = 1, #KEYS do redis.call('PEXPIRE', KEYS[key], retention_ms) end
return {'FORGOTTEN'}
