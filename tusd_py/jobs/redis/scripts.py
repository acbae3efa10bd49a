"""What is kept in Redis, and every change of it: one script, so that a change is seen whole or not at all.

Jobs of one upload and one hook stand in a line. Only its head is in the set of what is ready, by when it may be had or,
while it runs, by when its lease ends: a claim reads a range of one set, whatever else there is. Within a change the
first write is one that a Redis without memory refuses, so that then nothing has changed. Nothing here expires.
"""

from __future__ import annotations

from tusd_py.core.jobs import JobState

STATES = (JobState.WAITING, JobState.RUNNING, JobState.DONE, JobState.DEAD, JobState.CANCELLED)
"""As they are numbered in records, from 1."""

# KEYS[1] is what all keys begin with; the whole queue is in one slot of a Cluster. ARGV: the operation, the epoch of
# the queue that the caller knows, the time or nothing for that of Redis, then what the operation is for.
#
#   epoch             which queue this is; gone, if Redis lost it
#   number            the last that was given to a job, in the order of `put`
#   jobs, payloads    hashes by key; payloads are of jobs that are not over
#   state:N           keys by number
#   upload:ID         keys of jobs that are owed: waiting, running or dead
#   line:LENGTH:ID:HOOK   keys of jobs that wait or run, by number
#   ready:HOOK        heads of lines, each its number and key, by when they may be had
#   news              a short stream: a line has a new head, or one that may be had sooner
LUA = """
local base, operation = KEYS[1], ARGV[1]
if redis.call('GET', base .. 'epoch') ~= ARGV[2] then
  return {err = 'LOST this is not the queue that was here before'}
end
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
end
local WAITING, RUNNING, DONE, DEAD, CANCELLED = 1, 2, 3, 4, 5
local jobs, payloads = base .. 'jobs', base .. 'payloads'
local is_news = false

local function load(key)
  local packed = redis.call('HGET', jobs, key)
  if not packed then return nil end
  local r = cmsgpack.unpack(packed)
  local upload_end = r[2]
  local event_end = upload_end + 1 + r[3]
  return {
    key = key, number = r[1], upload = string.sub(key, 1, upload_end),
    event = string.sub(key, upload_end + 2, event_end), hook = string.sub(key, event_end + 2), state = r[4],
    attempts = r[5], created = r[6], changed = r[7], due = r[8], token = r[9], progress = r[10], note = r[11],
    error = r[12]
  }
end

local function save(job)
  redis.call('HSET', jobs, job.key, cmsgpack.pack({
    job.number, #job.upload, #job.event, job.state, job.attempts, job.created, job.changed, job.due, job.token,
    job.progress, job.note, job.error
  }))
end

local function move(job, state)
  local before = job.state
  job.state, job.changed = state, now
  save(job)
  if before ~= state then
    redis.call('ZADD', base .. 'state:' .. state, job.number, job.key)
    redis.call('ZREM', base .. 'state:' .. before, job.key)
  end
end

local function line_of(job) return base .. 'line:' .. #job.upload .. ':' .. job.upload .. ':' .. job.hook end
local function ready_of(job) return base .. 'ready:' .. job.hook end
local function place_of(job) return string.format('%016.0f', job.number) .. job.key end

local function put_at_head(job)
  redis.call('ZADD', ready_of(job), job.due, place_of(job))
  is_news = true
end

-- Whether it was the head.
local function take_from_head(job) return redis.call('ZREM', ready_of(job), place_of(job)) == 1 end

-- A line without a head gets its oldest job.
local function promote(line)
  local first = redis.call('ZRANGE', line, 0, 0)[1]
  if first then put_at_head(load(first)) end
end

local function leave(job)
  redis.call('ZREM', line_of(job), job.key)
  if take_from_head(job) then promote(line_of(job)) end
end

local function wait(job, seconds)
  job.due = now + seconds
  move(job, WAITING)
  if take_from_head(job) then promote(line_of(job)) end
end

local function over(job, state)
  local was_dead = job.state == DEAD
  job.token = ''
  move(job, state)
  redis.call('HDEL', payloads, job.key)
  redis.call('SREM', base .. 'upload:' .. job.upload, job.key)
  if not was_dead then leave(job) end
end

local function is_settled(upload) return redis.call('EXISTS', base .. 'upload:' .. upload) == 0 end

local function held(key, token)
  local job = load(key)
  if job and job.state == RUNNING and job.token == token then return job end
  return nil
end

local function put(upload, event, hook, payload)
  local key = upload .. ':' .. event .. ':' .. hook
  if redis.call('HEXISTS', jobs, key) == 1 then return end
  local job = {
    key = key, number = redis.call('INCR', base .. 'number'), upload = upload, event = event, hook = hook,
    state = WAITING, attempts = 0, created = now, changed = now, due = now, token = '', progress = '', note = '',
    error = ''
  }
  redis.call('HSET', payloads, key, payload)
  redis.call('ZADD', base .. 'state:' .. WAITING, job.number, key)
  redis.call('SADD', base .. 'upload:' .. upload, key)
  redis.call('ZADD', line_of(job), job.number, key)
  if redis.call('ZCARD', line_of(job)) == 1 then put_at_head(job) end
  save(job)  -- last: without it, it was not put
end

-- When a job of this hook may be had: nil, there is none.
local function next_of(hook)
  return tonumber(redis.call('ZRANGE', base .. 'ready:' .. hook, 0, 0, 'WITHSCORES')[2])
end

local function exact(number) return string.format('%.17g', number) end

local function told(job)
  return {
    job.upload, job.event, job.hook, redis.call('HGET', payloads, job.key) or '', job.state, job.attempts,
    exact(job.created), exact(job.changed), exact(job.due), job.progress == '' and '' or exact(job.progress), job.note,
    job.error
  }
end

local operations = {}

-- Upload, event, hook and payload of each.
function operations.put()
  for i = 4, #ARGV, 4 do put(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) end
  return {}
end

-- The same. The uploads of which nothing is owed.
function operations.put_again()
  local last, known, settled = {}, {}, {}
  for i = 4, #ARGV, 4 do last[ARGV[i]] = ARGV[i + 1] end
  for i = 4, #ARGV, 4 do
    local upload, event = ARGV[i], ARGV[i + 1]
    if event == last[upload] and redis.call('HEXISTS', jobs, upload .. ':' .. event .. ':' .. ARGV[i + 2]) == 1 then
      known[upload] = true
    end
  end
  for i = 4, #ARGV, 4 do
    if not known[ARGV[i]] then put(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) end
  end
  for upload in pairs(last) do
    if is_settled(upload) then table.insert(settled, upload) end
  end
  return settled
end

-- A token, the seconds of a lease, then hooks, each with how many. First in how many seconds there may be some, if
-- there are none now; then what was taken.
function operations.claim()
  local token, lease = ARGV[4], tonumber(ARGV[5])
  local answer, soonest = {''}, nil
  for i = 6, #ARGV, 2 do
    local ready = base .. 'ready:' .. ARGV[i]
    for _, place in ipairs(redis.call('ZRANGEBYSCORE', ready, '-inf', now, 'LIMIT', 0, ARGV[i + 1])) do
      local job = load(string.sub(place, 17))
      job.attempts, job.token, job.progress, job.note = job.attempts + 1, token, '', ''
      move(job, RUNNING)
      redis.call('ZADD', ready, now + lease, place)
      table.insert(answer, {
        job.upload, job.event, job.hook, redis.call('HGET', payloads, job.key) or '', job.attempts
      })
    end
    if #answer == 1 then
      local next = next_of(ARGV[i])
      if next then soonest = math.min(soonest or math.huge, next) end
    end
  end
  if #answer == 1 and soonest then answer[1] = exact(soonest - now) end
  return answer
end

-- Key, token, seconds, progress and note of each; which are held.
function operations.extend()
  local answer = {}
  for i = 4, #ARGV, 5 do
    local job = held(ARGV[i], ARGV[i + 1])
    if job then
      redis.call('ZADD', ready_of(job), now + tonumber(ARGV[i + 2]), place_of(job))
      local progress, note = ARGV[i + 3], ARGV[i + 4]
      if progress ~= '' then job.progress = tonumber(progress) end
      if note ~= '-' then job.note = string.sub(note, 2) end
      if progress ~= '' or note ~= '-' then save(job) end
    end
    table.insert(answer, job and 1 or 0)
  end
  return answer
end

-- Key and token of each; which were the last that was owed of their uploads.
function operations.finish()
  local uploads, answer = {}, {}
  for i = 4, #ARGV, 2 do
    local job = held(ARGV[i], ARGV[i + 1])
    if job then over(job, DONE) end
    table.insert(uploads, job and job.upload or false)
  end
  for i, upload in ipairs(uploads) do answer[i] = upload and is_settled(upload) and 1 or 0 end
  return answer
end

-- Key, token, seconds and error of each.
function operations.put_off()
  for i = 4, #ARGV, 4 do
    local job = held(ARGV[i], ARGV[i + 1])
    if job then
      job.error = ARGV[i + 3]
      wait(job, tonumber(ARGV[i + 2]))
    end
  end
  return {}
end

-- Key and token of each.
function operations.give_back()
  for i = 4, #ARGV, 2 do
    local job = held(ARGV[i], ARGV[i + 1])
    if job then
      job.attempts = job.attempts - 1
      wait(job, 0)
    end
  end
  return {}
end

-- Key, token and error of each.
function operations.bury()
  for i = 4, #ARGV, 3 do
    local job = held(ARGV[i], ARGV[i + 1])
    if job then
      job.error = ARGV[i + 2]
      move(job, DEAD)
      leave(job)
    end
  end
  return {}
end

-- Upload and the event that is kept; how many were cancelled.
function operations.cancel()
  local count = 0
  for _, key in ipairs(redis.call('SMEMBERS', base .. 'upload:' .. ARGV[4])) do
    local job = load(key)
    if job.state ~= DEAD and job.event ~= ARGV[5] then
      over(job, CANCELLED)
      count = count + 1
    end
  end
  return {count}
end

-- A count, the key before the first or nothing, then states.
function operations.list()
  local count, number, found, answer = tonumber(ARGV[4]), '-inf', {}, {}
  if ARGV[5] ~= '' then
    local job = load(ARGV[5])
    if not job then return {} end
    number = '(' .. exact(job.number)
  end
  for i = 6, #ARGV do
    for _, key in ipairs(redis.call('ZRANGEBYSCORE', base .. 'state:' .. ARGV[i], number, '+inf', 'LIMIT', 0, count)) do
      table.insert(found, load(key))
    end
  end
  table.sort(found, function(one, other) return one.number < other.number end)
  for i = 1, math.min(count, #found) do answer[i] = told(found[i]) end
  return answer
end

function operations.find()
  local job = load(ARGV[4])
  return {job and told(job)}
end

function operations.counts()
  local answer = {}
  for state = WAITING, CANCELLED do answer[state] = redis.call('ZCARD', base .. 'state:' .. state) end
  return answer
end

-- Hooks; for how many seconds one may have been had.
function operations.overdue()
  local longest = 0
  for i = 4, #ARGV do longest = math.max(longest, now - (next_of(ARGV[i]) or now)) end
  return {exact(longest)}
end

function operations.retry()
  local job = load(ARGV[4])
  if not job or (job.state ~= WAITING and job.state ~= DEAD) then return {0} end
  local was_dead, line = job.state == DEAD, line_of(job)
  job.attempts, job.due = 0, now
  move(job, WAITING)
  if was_dead then
    local first = redis.call('ZRANGE', line, 0, 0)[1]
    redis.call('ZADD', line, job.number, job.key)
    local head = first and load(first)
    -- One that waits makes room for an older one; one that runs does not.
    if not head or (head.state == WAITING and take_from_head(head)) then promote(line) end
  elseif take_from_head(job) then
    put_at_head(job)
  end
  return {1}
end

function operations.drop()
  local job = load(ARGV[4])
  if not job or job.state == DONE or job.state == CANCELLED then return {0} end
  over(job, CANCELLED)
  return {1}
end

-- How many seconds ago, and how many to look at: the oldest. One of them that ended late stays a little longer. How
-- many went.
function operations.forget()
  local count = 0
  for _, state in ipairs({DONE, CANCELLED}) do
    for _, key in ipairs(redis.call('ZRANGE', base .. 'state:' .. state, 0, ARGV[5] - 1)) do
      if load(key).changed < now - tonumber(ARGV[4]) then
        redis.call('ZREM', base .. 'state:' .. state, key)
        redis.call('HDEL', jobs, key)
        count = count + 1
      end
    end
  end
  return {count}
end

local answer = operations[operation]()
if is_news then redis.call('XADD', base .. 'news', 'MAXLEN', '~', 100, '*', 'n', 1) end
return answer
"""
