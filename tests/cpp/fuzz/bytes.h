// Turns the fuzzer's bytes into sizes and numbers; when they run out, zeros follow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

class Bytes {
public:
    Bytes(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

    std::size_t below(std::size_t limit) { return one<std::uint16_t>() % limit; }

    template <class T>
    std::vector<T> array(std::size_t count) {
        std::vector<T> values(count);
        for (T& value : values) value = one<T>();
        return values;
    }

    template <class T>
    T one() {
        T value{};
        const std::size_t size = left_ < sizeof(T) ? left_ : sizeof(T);
        if (size != 0) std::memcpy(&value, data_, size);
        data_ += size;
        left_ -= size;
        return value;
    }

private:
    const std::uint8_t* data_;
    std::size_t left_;
};

// A finding: libFuzzer keeps the input that led here.
inline void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}
