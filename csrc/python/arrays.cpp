#include "arrays.h"

#include <vector>

namespace fedagg::python {
namespace {

constexpr int c_contiguous_flag = 0x0001, aligned_flag = 0x0100, writable_flag = 0x0400;  // numpy/ndarraytypes.h

DType dtype_of(PyObject* descriptor) {
    const auto* const proxy = py::detail::array_descriptor_proxy(descriptor);
    if (proxy->byteorder == '>' || proxy->byteorder == '<') return DType::other;  // '=' is native, '|' has no order
    switch (proxy->kind) {
        case 'b': return DType::boolean;
        case 'f': return proxy->type == 'f' ? DType::f32 : proxy->type == 'd' ? DType::f64
                         : proxy->type == 'e' ? DType::f16 : DType::other;
        case 'i':
            if (proxy->type == 'b') return DType::i8;
            return (proxy->type == 'l' && sizeof(long) == 8) || proxy->type == 'q' ? DType::i64 : DType::other;
        case 'u': return proxy->type == 'B' ? DType::u8 : DType::other;
        default: return DType::other;
    }
}

std::size_t item_size(DType dtype) {
    switch (dtype) {
        case DType::i64:
        case DType::f64: return 8;
        case DType::f32: return 4;
        case DType::f16: return 2;
        default: return 1;
    }
}

std::string type_name(PyObject* object) { return object == Py_None ? "None" : Py_TYPE(object)->tp_name; }

std::string shape_text(const Array& array) {
    std::string text = "[";
    for (int i = 0; i < array.dimensions; ++i) text += (i == 0 ? "" : ", ") + std::to_string(array.shape[i]);
    return text + "]";
}

std::string dtype_text(const Array& array) {
    return py::str(py::handle(array.object).attr("dtype")).cast<std::string>();
}

}  // namespace

std::size_t Array::bytes() const {
    std::size_t count = item_size(dtype);
    for (int i = 0; i < dimensions; ++i) count *= static_cast<std::size_t>(shape[i]);
    return count;
}

bool is_array(PyObject* object) { return py::detail::npy_api::get().PyArray_Check_(object); }

Array array_argument(PyObject* object, const char* name, const char* expected) {
    if (!is_array(object)) {
        throw py::type_error(std::string(name) + ": got " + type_name(object) + ", expected a numpy array of " + expected);
    }
    const auto* const proxy = py::detail::array_proxy(object);
    Array array;
    array.data = proxy->data;
    array.name = name;
    array.object = object;
    array.dtype = dtype_of(proxy->descr);
    array.dimensions = proxy->nd;
    array.shape = proxy->dimensions;
    array.contiguous = (proxy->flags & c_contiguous_flag) != 0 && (proxy->flags & aligned_flag) != 0;
    array.writable = (proxy->flags & writable_flag) != 0;
    return array;
}

void require_dtype(const Array& array, std::initializer_list<DType> allowed) {
    std::string expected;
    for (const DType dtype : allowed) {
        if (array.dtype == dtype) return;
        expected += (expected.empty() ? "" : " or ") + std::string(dtype_name(dtype));
    }
    throw py::type_error(std::string(array.name) + ": got " + dtype_text(array) + ", expected " + expected +
                         "; convert with .astype(numpy." + dtype_name(*allowed.begin()) + ")");
}

void require_dimensions(const Array& array, int dimensions, const char* letters) {
    if (array.dimensions == dimensions) return;
    throw py::value_error(std::string(array.name) + ": got shape " + shape_text(array) + ", expected " + letters);
}

void require_contiguous(const Array& array) {
    if (array.contiguous) return;
    throw py::value_error(std::string(array.name) +
                          ": got an array that is not c-contiguous and aligned, expected one that is; "
                          "copy it with numpy.ascontiguousarray");
}

void require_writable(const Array& array) {
    if (array.writable) return;
    throw py::value_error(std::string(array.name) + ": got a read-only array, expected a writable one");
}

void require_size(const Array& array, int axis, std::size_t expected, const char* meaning) {
    if (array.size(axis) == expected) return;
    throw py::value_error(std::string(array.name) + ": got shape " + shape_text(array) + ", expected " +
                          std::to_string(expected) + " " + meaning + " on axis " + std::to_string(axis));
}

Array input_argument(PyObject* object, const char* name, std::initializer_list<DType> allowed, int dimensions,
                     const char* letters) {
    const Array array = array_argument(object, name, letters);
    require_dtype(array, allowed);
    require_dimensions(array, dimensions, letters);
    require_contiguous(array);
    return array;
}

bool same_memory(const Array& a, const Array& b) { return a.data == b.data && a.bytes() == b.bytes(); }

void require_apart(const Array& output, const Array& input) {
    const auto* const a = static_cast<const char*>(output.data);
    const auto* const b = static_cast<const char*>(input.data);
    if (a + output.bytes() <= b || b + input.bytes() <= a) return;
    throw py::value_error(std::string(output.name) + ": got an array that overlaps " + input.name +
                          ", expected memory of its own");
}

const char* dtype_name(DType dtype) {
    switch (dtype) {
        case DType::boolean: return "bool_";
        case DType::i8: return "int8";
        case DType::u8: return "uint8";
        case DType::i64: return "int64";
        case DType::f16: return "float16";
        case DType::f32: return "float32";
        case DType::f64: return "float64";
        case DType::other: break;
    }
    return "other";
}

py::array new_array(DType dtype, std::initializer_list<std::size_t> shape) {
    std::vector<py::ssize_t> sizes;
    for (const std::size_t size : shape) sizes.push_back(static_cast<py::ssize_t>(size));
    switch (dtype) {
        case DType::i8: return py::array_t<std::int8_t>(sizes);
        case DType::u8: return py::array_t<std::uint8_t>(sizes);
        case DType::f64: return py::array_t<double>(sizes);
        case DType::f16: return py::array(py::dtype("float16"), sizes);
        default: return py::array_t<float>(sizes);
    }
}

}  // namespace fedagg::python
