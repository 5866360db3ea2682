// What a kernel call needs besides its arguments: how many rows to take at a time, and scratch memory, one growing, 64-byte aligned buffer per thread, so that small calls allocate nothing.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace fedagg {

// Rows that one thread takes at a time: enough work to pay for handing it over, whole cache lines and whole vectors.
inline std::size_t rows_per_chunk(std::size_t classes) {
    constexpr std::size_t elements = 65536;
    const std::size_t rows = elements / classes / 16 * 16;
    return rows == 0 ? 16 : rows;
}

class Scratch {
public:
    template <class Real>
    static Real* of_this_thread(std::size_t count) {
        static thread_local Scratch scratch;
        return static_cast<Real*>(scratch.reserve(count * sizeof(Real)));
    }

private:
    void* reserve(std::size_t bytes) {
        if (bytes > size_) {
            const std::size_t rounded = (bytes + 4095) / 4096 * 4096;
            buffer_.reset();
            size_ = 0;
            buffer_.reset(std::aligned_alloc(64, rounded));
            if (buffer_ == nullptr) throw std::bad_alloc();
            size_ = rounded;
        }
        return buffer_.get();
    }
    struct Free {
        void operator()(void* p) const { std::free(p); }
    };
    std::unique_ptr<void, Free> buffer_;
    std::size_t size_ = 0;
};

}  // namespace fedagg
