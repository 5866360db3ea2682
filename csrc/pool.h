// Threads for large calls: a small pool of our own, because a second OpenMP runtime beside torch's is a known cause of
// stalls. Threads start on first use, sleep between calls and are never joined.
#pragma once

#include <cstddef>
#include <functional>

namespace fedagg {

// Runs body(0) ... body(count - 1), each once, on at most `threads` threads of which the caller is one. Calls made while
// another thread is using the pool run on their own thread alone: they never wait for it. Rethrows the first exception.
// After fork() the child starts threads of its own.
void parallel_for(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& body);

}  // namespace fedagg
