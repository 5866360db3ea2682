// Where a kernel's consecutive results go: straight to memory, or, for results larger than the caches, past them with
// non-temporal stores of whole cache lines, which saves reading each line before it is overwritten.
#pragma once

#include <cstddef>
#include <cstdint>

#include "inline.h"

namespace {

template <class V>
class StreamWriter {
public:
    explicit StreamWriter(float* destination) : to_(destination) {
        const std::size_t past = reinterpret_cast<std::uintptr_t>(destination) % line_bytes / sizeof(float);
        fill_ = past;  // the first line starts before the destination: those slots stay unused
        skip_ = past;
        to_ -= past;
    }
    // The inputs of rows that were not appended yet may share the pending line with them: it is written late, so an
    // output that aliases an input stays safe.
    void append(const float* x, std::size_t count) {
        if (fill_ != 0) {
            const std::size_t take = count < line - fill_ ? count : line - fill_;
            __builtin_memcpy(pending_ + fill_, x, take * sizeof(float));
            fill_ += take;
            x += take;
            count -= take;
            if (fill_ < line) return;
            flush_pending();
        }
        for (; count >= line; count -= line, x += line, to_ += line) {
            for (std::size_t i = 0; i < line; i += V::width) V::stream(to_ + i, V::load(x + i));
        }
        __builtin_memcpy(pending_, x, count * sizeof(float));
        fill_ = count;
    }
    // How much more makes the pending line a whole one; 0 when none is pending.
    std::size_t room() const { return fill_ == 0 ? 0 : line - fill_; }
    // A whole line, when none is pending: vector(i) gives floats i, i + 1, ...
    template <class Vector>
    FEDAGG_INLINE void line_of(const Vector& vector) {
        for (std::size_t i = 0; i < line; i += V::width) V::stream(to_ + i, vector(i));
        to_ += line;
    }
    void finish() {
        flush_pending();
        V::fence();
    }

    static constexpr std::size_t line_bytes = 64;
    static constexpr std::size_t line = line_bytes / sizeof(float);

private:
    void flush_pending() {
        __builtin_memcpy(to_ + skip_, pending_ + skip_, (fill_ - skip_) * sizeof(float));
        to_ += fill_;
        fill_ = 0;
        skip_ = 0;
    }

    float* to_;
    std::size_t fill_;
    std::size_t skip_;
    float pending_[line];
};

}  // namespace
