// Scratch memory of a kernel call: one growing, 64-byte aligned buffer per thread, so that small calls allocate nothing.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace fedagg {

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
