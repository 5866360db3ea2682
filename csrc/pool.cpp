#include "pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>

namespace fedagg {
namespace {

class Pool {
public:
    using Body = std::function<void(std::size_t)>;

    // False when another thread is using the pool.
    bool run(std::size_t count, unsigned threads, const Body& body) {
        const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
        if (!turn.owns_lock()) return false;
        start_workers(threads - 1);
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            body_ = &body;
            count_ = count;
            next_.store(0, std::memory_order_relaxed);
            error_ = nullptr;
            seats_ = threads - 1;
            ++generation_;
        }
        wake_.notify_all();
        work();
        std::unique_lock<std::mutex> lock(mutex_);
        seats_ = 0;  // whoever wakes up only now goes back to sleep
        idle_.wait(lock, [this] { return active_ == 0; });
        body_ = nullptr;
        if (error_ != nullptr) std::rethrow_exception(error_);
        return true;
    }

private:
    void start_workers(unsigned wanted) {
        for (; workers_ < wanted; ++workers_) std::thread([this] { sleep_and_work(); }).detach();
    }

    [[noreturn]] void sleep_and_work() {
        std::uint64_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return generation_ != seen; });
            seen = generation_;
            if (seats_ == 0) continue;
            --seats_;
            ++active_;
            lock.unlock();
            work();
            lock.lock();
            if (--active_ == 0) idle_.notify_one();
        }
    }

    void work() {
        try {
            for (;;) {
                const std::size_t i = next_.fetch_add(1, std::memory_order_relaxed);
                if (i >= count_) return;
                (*body_)(i);
            }
        } catch (...) {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (error_ == nullptr) error_ = std::current_exception();
            next_.store(count_, std::memory_order_relaxed);
        }
    }

    std::mutex turn_;  // held by the caller whose job is running
    unsigned workers_ = 0;

    std::mutex mutex_;  // guards all below except next_
    std::condition_variable wake_, idle_;
    const Body* body_ = nullptr;
    std::size_t count_ = 0;
    std::atomic<std::size_t> next_{0};
    std::exception_ptr error_;
    unsigned seats_ = 0, active_ = 0;
    std::uint64_t generation_ = 0;
};

std::atomic<Pool*> shared{nullptr};

// A child has the pool's memory but none of its threads, and perhaps a mutex locked for ever: it must start afresh.
void forget_pool_in_child() { shared.store(nullptr, std::memory_order_relaxed); }

Pool& pool() {
    Pool* current = shared.load(std::memory_order_acquire);
    if (current == nullptr) {
        static const int registered = pthread_atfork(nullptr, nullptr, forget_pool_in_child);
        static_cast<void>(registered);
        auto* const fresh = new Pool;  // never deleted: its threads may outlive every destructor
        if (shared.compare_exchange_strong(current, fresh)) return *fresh;
        delete fresh;  // another thread was faster, and nothing runs in ours
    }
    return *current;
}

}  // namespace

void parallel_for(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& body) {
    const unsigned useful = static_cast<unsigned>(std::min<std::size_t>(threads, count));
    if (useful > 1 && pool().run(count, useful, body)) return;
    for (std::size_t i = 0; i < count; ++i) body(i);
}

}  // namespace fedagg
