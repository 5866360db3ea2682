// What a Python array or tensor is, seen without copying: pointer, shape, dtype. Refusals name the argument, what came, what was
// expected and what to do about it.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace fedagg::python {

namespace py = pybind11;

enum class DType : std::uint8_t { boolean, i8, u8, u16, i64, f16, f32, f64, other };

inline std::size_t item_size(DType dtype) {
    constexpr std::uint8_t sizes[] = {1, 1, 1, 2, 8, 2, 4, 8, 1};
    return sizes[static_cast<std::size_t>(dtype)];
}

struct Array {
    void* data = nullptr;
    std::size_t size(int axis) const { return axis < dimensions ? shape[axis] : 1; }
    std::size_t bytes() const { return item_size(dtype) * size(0) * size(1); }

    const char* name = "";  // of the argument, for messages
    PyObject* object = nullptr;
    DType dtype = DType::other;
    int dimensions = 0;
    std::size_t shape[2] = {};          // of the first two axes; no kernel takes more
    bool contiguous = false;            // row-major without gaps, and aligned for its dtype
    bool writable = false;
    bool is_tensor = false;
};

bool is_numpy(PyObject* object);
bool is_tensor(PyObject* object);
bool is_array(PyObject* object);  // either

// A view of a numpy array, or of a tensor in CPU memory whose type exchanges DLPack in C (torch 2.10 and newer). Throws
// TypeError for anything else; `expected` ends the message: "float32 [N, C]".
Array array_argument(PyObject* object, const char* name, const char* expected);
// The same into an Array that exists: copying one right after its fields were written stalls the CPU, which a call of half
// a microsecond notices.
void read_array(Array& array, PyObject* object, const char* name, const char* expected);

// What the checks below throw; apart from them, so that a check that passes costs a comparison and no call.
[[noreturn]] void refuse_dtype(const Array& array, std::initializer_list<DType> allowed);
[[noreturn]] void refuse_dimensions(const Array& array, const char* letters);
[[noreturn]] void refuse_gaps(const Array& array);
[[noreturn]] void refuse_read_only(const Array& array);
[[noreturn]] void refuse_size(const Array& array, int axis, std::size_t expected, const char* meaning);

inline void require_dtype(const Array& array, std::initializer_list<DType> allowed) {  // TypeError
    for (const DType dtype : allowed) {
        if (array.dtype == dtype) return;
    }
    refuse_dtype(array, allowed);
}
inline void require_dimensions(const Array& array, int dimensions, const char* letters) {  // ValueError, as below
    if (array.dimensions != dimensions) refuse_dimensions(array, letters);
}
inline void require_contiguous(const Array& array) {
    if (!array.contiguous) refuse_gaps(array);
}
inline void require_writable(const Array& array) {
    if (!array.writable) refuse_read_only(array);
}
inline void require_size(const Array& array, int axis, std::size_t expected, const char* meaning) {
    if (array.size(axis) != expected) refuse_size(array, axis, expected, meaning);
}

// All of the above for an input: dtype, dimensions, contiguity.
Array input_argument(PyObject* object, const char* name, std::initializer_list<DType> allowed, int dimensions,
                     const char* letters);
inline void read_input(Array& array, PyObject* object, const char* name, std::initializer_list<DType> allowed, int dimensions,
                       const char* letters) {
    read_array(array, object, name, letters);
    require_dtype(array, allowed);
    require_dimensions(array, dimensions, letters);
    require_contiguous(array);
}

[[noreturn]] void refuse_overlap(const Array& output, const Array& input);
// Throws ValueError when the two share memory.
inline void require_apart(const Array& output, const Array& input) {
    const auto* const a = static_cast<const char*>(output.data);
    const auto* const b = static_cast<const char*>(input.data);
    if (a + output.bytes() > b && b + input.bytes() > a) refuse_overlap(output, input);
}
inline bool same_memory(const Array& a, const Array& b) { return a.data == b.data && a.bytes() == b.bytes(); }

const char* dtype_name(DType dtype);
// Uninitialised, of the same library and dtype as `like`.
py::object new_array_like(const Array& like);
py::array new_array(DType dtype, std::initializer_list<std::size_t> shape);

}  // namespace fedagg::python
