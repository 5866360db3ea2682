#include "arrays.h"

#include "dlpack.h"

#include <algorithm>
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
        case 'u': return proxy->type == 'B' ? DType::u8 : proxy->type == 'H' ? DType::u16 : DType::other;
        default: return DType::other;
    }
}

std::string type_name(PyObject* object) { return object == Py_None ? "None" : Py_TYPE(object)->tp_name; }

std::string shape_text(const Array& array) {
    std::string text = py::str(py::handle(array.object).attr("shape")).cast<std::string>();
    const auto open = text.find_last_of("(["), close = text.find_first_of(")]");
    text = text.substr(open + 1, close - open - 1);  // "(3,)", "(2, 3)" or "torch.Size([2, 3])"
    if (!text.empty() && text.back() == ',') text.pop_back();
    return "[" + text + "]";
}

std::string dtype_text(const Array& array) {
    return py::str(py::handle(array.object).attr("dtype")).cast<std::string>();
}

// The exchange table of a type, found once: programs use one tensor type.
PyTypeObject* known_type = nullptr;
const dlpack::ExchangeApi* known = nullptr;

const dlpack::ExchangeApi* find_exchange(PyTypeObject* type) {
    PyObject* const capsule = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), dlpack::attribute);
    const auto* found = capsule == nullptr ? nullptr : static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(capsule, dlpack::capsule_name));
    Py_XDECREF(capsule);  // the table outlives its capsule: it is static in the library that offers it
    PyErr_Clear();
    if (found == nullptr || found->major_version != 1 || found->tensor_from_py_object == nullptr) return nullptr;
    Py_INCREF(type);  // for good: the pointer must not come to mean another type
    known_type = type;
    known = found;
    return found;
}

const dlpack::ExchangeApi* exchange_of(PyTypeObject* type) { return type == known_type ? known : find_exchange(type); }

DType dtype_of(const dlpack::Tensor& tensor) {
    if (tensor.type_lanes != 1) return DType::other;
    switch (tensor.type_code) {
        case dlpack::code_bool: return tensor.type_bits == 8 ? DType::boolean : DType::other;
        case dlpack::code_int: return tensor.type_bits == 64 ? DType::i64 : tensor.type_bits == 8 ? DType::i8 : DType::other;
        case dlpack::code_uint:
            return tensor.type_bits == 8 ? DType::u8 : tensor.type_bits == 16 ? DType::u16 : DType::other;
        case dlpack::code_float:
            return tensor.type_bits == 32 ? DType::f32 : tensor.type_bits == 64 ? DType::f64
                   : tensor.type_bits == 16 ? DType::f16 : DType::other;
        default: return DType::other;
    }
}

bool is_contiguous(const dlpack::Tensor& tensor) {
    std::int64_t expected = 1;
    for (int i = 0; i < tensor.dimensions; ++i) {
        if (tensor.shape[i] == 0) return true;  // whatever its strides are
    }
    for (int i = tensor.dimensions - 1; i >= 0; --i) {
        if (tensor.strides != nullptr && tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
        expected *= tensor.shape[i];
    }
    return true;
}

bool has_elements(const dlpack::Tensor& tensor) {
    return std::all_of(tensor.shape, tensor.shape + tensor.dimensions, [](std::int64_t size) { return size != 0; });
}

// A sparse tensor, one on the meta device, one that torch.func has wrapped: torch says why, in its first line.
[[noreturn]] void refuse_unreadable(const char* name) {
    const py::error_already_set error;
    if (!error.matches(PyExc_RuntimeError) && !error.matches(PyExc_BufferError)) throw py::error_already_set(error);
    const std::string said = py::str(error.value()).cast<std::string>();
    throw py::value_error(std::string(name) + ": got a tensor whose memory torch does not share (" + said.substr(0, said.find('\n')) +
                          "), expected a dense one in cpu memory; under torch.func.vmap call fedagg_edge.learners.torch_ops");
}

[[noreturn]] void refuse_released(const char* name) {
    throw py::value_error(std::string(name) + ": got a tensor without memory (a fake one, or its storage was resized to 0), "
                          "expected one that holds its elements");
}

void read_tensor(Array& array, PyObject* object, const dlpack::ExchangeApi& api, const char* name) {
    dlpack::Tensor tensor;
    if (api.tensor_from_py_object(object, &tensor) != 0) refuse_unreadable(name);
    if (tensor.device_type != dlpack::cpu && tensor.device_type != dlpack::pinned_by_cuda) {
        throw py::value_error(std::string(name) + ": got a tensor on " +
                              py::str(py::handle(object).attr("device")).cast<std::string>() +
                              ", expected one in cpu memory; move it with .cpu()");
    }
    // a tensor without elements has no memory, but a null pointer would say that none was given
    static double nothing = 0;
    if (tensor.data == nullptr && has_elements(tensor)) refuse_released(name);
    array.data = tensor.data == nullptr ? static_cast<void*>(&nothing) : static_cast<char*>(tensor.data) + tensor.byte_offset;
    array.name = name;
    array.object = object;
    array.dtype = dtype_of(tensor);
    array.dimensions = tensor.dimensions;
    for (int i = 0; i < tensor.dimensions && i < 2; ++i) array.shape[i] = static_cast<std::size_t>(tensor.shape[i]);
    array.contiguous = is_contiguous(tensor) && reinterpret_cast<std::uintptr_t>(array.data) % item_size(array.dtype) == 0;
    array.writable = true;
    array.is_tensor = true;
}

}  // namespace

bool is_numpy(PyObject* object) {
    static PyTypeObject* const array_type = py::detail::npy_api::get().PyArray_Type_;
    return Py_TYPE(object) == array_type || PyType_IsSubtype(Py_TYPE(object), array_type) != 0;
}

bool is_tensor(PyObject* object) { return exchange_of(Py_TYPE(object)) != nullptr; }

bool is_array(PyObject* object) { return Py_TYPE(object) == known_type || is_numpy(object) || is_tensor(object); }

void read_array(Array& array, PyObject* object, const char* name, const char* expected) {
    if (Py_TYPE(object) == known_type) return read_tensor(array, object, *known, name);
    if (!is_numpy(object)) {
        if (const auto* const api = exchange_of(Py_TYPE(object))) return read_tensor(array, object, *api, name);
        throw py::type_error(std::string(name) + ": got " + type_name(object) +
                             ", expected a numpy array or a torch tensor of " + expected +
                             (type_name(object) == "Tensor" ? "; tensors are read from torch 2.10 on, else pass .numpy()" : ""));
    }
    const auto* const proxy = py::detail::array_proxy(object);
    array.data = proxy->data;
    array.name = name;
    array.object = object;
    array.dtype = dtype_of(proxy->descr);
    array.dimensions = proxy->nd;
    for (int i = 0; i < proxy->nd && i < 2; ++i) array.shape[i] = static_cast<std::size_t>(proxy->dimensions[i]);
    array.contiguous = (proxy->flags & c_contiguous_flag) != 0 && (proxy->flags & aligned_flag) != 0;
    array.writable = (proxy->flags & writable_flag) != 0;
}

Array array_argument(PyObject* object, const char* name, const char* expected) {
    Array array;
    read_array(array, object, name, expected);
    return array;
}

namespace {

// How to get what is expected; a copy of what a call writes to would not receive the result.
std::string advice(const Array& array, const std::string& way) {
    const std::string name = array.name;
    const bool is_written = name == "out" || name == "parameters_P" || name == "velocity_P";
    return is_written ? "; it is written in place, so pass one that was made so" : "; " + way;
}

std::string torch_name(DType dtype) { return dtype == DType::boolean ? "bool" : dtype_name(dtype); }

}  // namespace

void refuse_dtype(const Array& array, std::initializer_list<DType> allowed) {
    std::string expected;
    for (const DType dtype : allowed) {
        expected += (expected.empty() ? "" : " or ") + std::string(dtype_name(dtype));
    }
    throw py::type_error(std::string(array.name) + ": got " + dtype_text(array) + ", expected " + expected +
                         advice(array, array.is_tensor ? "convert with .to(torch." + torch_name(*allowed.begin()) + ")"
                                                       : "convert with .astype(numpy." + std::string(dtype_name(*allowed.begin())) + ")"));
}

void refuse_dimensions(const Array& array, const char* letters) {
    throw py::value_error(std::string(array.name) + ": got shape " + shape_text(array) + ", expected " + letters);
}

void refuse_gaps(const Array& array) {
    throw py::value_error(std::string(array.name) +
                          ": got an array that is not c-contiguous and aligned, expected one that is" +
                          advice(array, array.is_tensor ? "copy it with .contiguous()" : "copy it with numpy.ascontiguousarray"));
}

void refuse_read_only(const Array& array) {
    throw py::value_error(std::string(array.name) + ": got a read-only array, expected a writable one");
}

void refuse_size(const Array& array, int axis, std::size_t expected, const char* meaning) {
    throw py::value_error(std::string(array.name) + ": got shape " + shape_text(array) + ", expected " +
                          std::to_string(expected) + " " + meaning + " on axis " + std::to_string(axis));
}

Array input_argument(PyObject* object, const char* name, std::initializer_list<DType> allowed, int dimensions,
                     const char* letters) {
    Array array;
    read_input(array, object, name, allowed, dimensions, letters);
    return array;
}

void refuse_overlap(const Array& output, const Array& input) {
    throw py::value_error(std::string(output.name) + ": got an array that overlaps " + input.name +
                          ", expected memory of its own");
}

const char* dtype_name(DType dtype) {
    switch (dtype) {
        case DType::boolean: return "bool_";
        case DType::i8: return "int8";
        case DType::u8: return "uint8";
        case DType::u16: return "uint16";
        case DType::i64: return "int64";
        case DType::f16: return "float16";
        case DType::f32: return "float32";
        case DType::f64: return "float64";
        case DType::other: break;
    }
    return "other";
}

py::object new_array_like(const Array& like) {
    if (like.is_tensor) return py::handle(like.object).attr("new_empty")(py::make_tuple(like.size(0), like.size(1)));
    return new_array(like.dtype, {like.size(0), like.size(1)});
}

py::array new_array(DType dtype, std::initializer_list<std::size_t> shape) {
    std::vector<py::ssize_t> sizes;
    for (const std::size_t size : shape) sizes.push_back(static_cast<py::ssize_t>(size));
    switch (dtype) {
        case DType::i8: return py::array_t<std::int8_t>(sizes);
        case DType::u8: return py::array_t<std::uint8_t>(sizes);
        case DType::u16: return py::array_t<std::uint16_t>(sizes);
        case DType::f64: return py::array_t<double>(sizes);
        case DType::f16: return py::array(py::dtype("float16"), sizes);
        default: return py::array_t<float>(sizes);
    }
}

}  // namespace fedagg::python
