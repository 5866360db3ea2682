// The words every part of the core shares: views of arrays, and the storage types of logits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fedagg {

enum class LogitType : std::uint8_t {
    f32,
    f64,  // read by the double instantiation of the distillation loss only
    f16,  // IEEE 754 binary16, as raw bits
    i8,   // one signed byte per class and one float scale per row: logit = byte * scale
};

// N rows of C logits, dense and row-major. row_scale has N entries and is read for i8 only.
struct Logits {
    const void* data = nullptr;
    LogitType type = LogitType::f32;
    const float* row_scale = nullptr;
};

}  // namespace fedagg
