--[[
view.lua: record that a user has viewed a packet, or consents to its retraction.

The record is in the packet's own keys. It is kept only while the packet can be retracted, with the names of only the
first few viewers: with more viewers the packet cannot be retracted at all.

KEYS
  1 lane  2 packet
ARGV
  1 epoch         the lane's epoch in the ledger
  2 user
  3 what          "view" or "consent"
  4 not_after_ms  after this it cannot be retracted, and nothing is recorded
  5 named_max     how many viewers are recorded by name

REPLIES, in order of precedence
  {"FENCED"}           the lane has another epoch, or is missing
  {"MALFORMED"}        not of the form above
  {"MISSING"}          no such packet here, or its shares are still loading
  {"ENDED", state}     it has ended
  {"CLAIMED"}          somebody has a share of it
  {"LATE"}             it is too late for a retraction
  {"NOT_VIEWED"}       "consent", but the user has not viewed it, or is not recorded by name
  {"NOTED", views, consents}  recorded now, or before; the number of viewers, and how many of them consent

EVENTS
  none
]]
local lane_key, packet_key = unpack(KEYS)
local epoch, user, what, not_after_ms, named_max = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

if redis.call('HGET', lane_key, 'epoch') ~= epoch then return {'FENCED'} end
if (what ~= 'view' and what ~= 'consent') or not not_after_ms or not named_max then return {'MALFORMED'} end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local viewer = 'viewer:' .. user
local state, count, remaining_count, views, consents, seen =
  unpack(redis.call('HMGET', packet_key, 'state', 'count', 'remaining_count', 'views', 'consents', viewer))
views, consents = tonumber(views or 0), tonumber(consents or 0)
if not state or state == 'loading' then return {'MISSING'} end
if state ~= 'open' and state ~= 'held' then return {'ENDED', state} end
if remaining_count ~= count then return {'CLAIMED'} end
if now_ms > not_after_ms then return {'LATE'} end

if what == 'consent' then
  if not seen then return {'NOT_VIEWED'} end
  if seen == 'viewed' then consents = consents + 1 end
  redis.call('HSET', packet_key, viewer, 'consented', 'consents', consents)
elseif not seen and views < named_max then
  views = views + 1
  redis.call('HSET', packet_key, viewer, 'viewed', 'views', views)
elseif not seen and views == named_max then
  views = views + 1
  redis.call('HSET', packet_key, 'views', views)
end
return {'NOTED', views, consents}
