// The part of DLPack 1.3's C exchange interface that is used here, written out so that nothing of torch is needed to
// build or to link: github.com/dmlc/dlpack, include/dlpack/dlpack.h, whose layout these structs repeat.
#pragma once

#include <cstdint>

namespace fedagg::python::dlpack {

struct Tensor {
    void* data;
    std::int32_t device_type;
    std::int32_t device_id;
    std::int32_t dimensions;
    std::uint8_t type_code;
    std::uint8_t type_bits;
    std::uint16_t type_lanes;
    const std::int64_t* shape;
    const std::int64_t* strides;  // in elements; null means row-major without gaps
    std::uint64_t byte_offset;
};

constexpr std::int32_t cpu = 1, pinned_by_cuda = 3;
constexpr std::uint8_t code_int = 0, code_uint = 1, code_float = 2, code_bool = 6;

struct ExchangeApi {
    std::uint32_t major_version;
    std::uint32_t minor_version;
    ExchangeApi* previous;
    void* managed_tensor_allocator;
    void* managed_tensor_from_py_object;
    void* managed_tensor_to_py_object;
    // Fills a view that is valid until control returns to Python; -1 with a Python exception set on failure.
    int (*tensor_from_py_object)(void* object, Tensor* out);
    void* current_work_stream;
};

constexpr const char* attribute = "__dlpack_c_exchange_api__";
constexpr const char* capsule_name = "dlpack_exchange_api";

}  // namespace fedagg::python::dlpack
