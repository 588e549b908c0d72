-- Prints one line for load.rs instead of wrk's tables: microseconds, counts, quantiles.
function done(summary, latency, requests)
   local errors = summary.errors
   print(string.format("RESULT %d %d %d %d %d %d %d",
      summary.duration, summary.requests, summary.bytes,
      latency:percentile(50), latency:percentile(99),
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
