-- What wrk sends:  wrk … -s load.lua <url> -- <file> <follow: yes or no>
--
-- A line of the file is a request: a path, its Cookie header and the answer it is to get, with tabs between them; the
-- last two may be missing. A thread has one connection and some of the lines for itself, so an answer is known to belong
-- to the request before it, and the cookie in it to its session.
local threads = {}

function setup(thread)
   thread:set("id", #threads)
   thread:set("of", tonumber(os.getenv("WRK_THREADS")))
   thread:set("wrong", 0)
   threads[#threads + 1] = thread
end

function init(arguments)
   local follow = arguments[2] == "yes"
   local paths, requests, answers, at, line = {}, {}, {}, 0, 0

   local function get(path, cookie)
      return wrk.format("GET", path, cookie and { Cookie = cookie } or {})
   end

   for text in io.lines(arguments[1]) do
      if line % of == id then
         local path, cookie, answer = text:match("^([^\t]+)\t?([^\t]*)\t?(.*)$")
         paths[#paths + 1] = path
         requests[#requests + 1] = get(path, cookie ~= "" and cookie or nil)
         answers[#requests] = answer ~= "" and answer or nil
      end
      line = line + 1
   end

   function request()
      at = at % #requests + 1
      return requests[at]
   end

   -- Parsing answers is work for wrk, so only where somebody looks at them.
   if follow or next(answers) then
      function response(status, headers, body)
         if answers[at] and body ~= answers[at] then wrong = wrong + 1 end
         local cookie = follow and (headers["Set-Cookie"] or headers["set-cookie"])
         if cookie then requests[at] = get(paths[at], cookie:match("^[^;]*")) end
      end
   end
end

function done(summary, latency)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
   for _, thread in ipairs(threads) do failed = failed + thread:get("wrong") end
   io.write(string.format('{"requests":%d,"seconds":%.6f,"p50":%.1f,"p99":%.1f,"failed":%d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), failed))
end
