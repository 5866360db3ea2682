#include <algorithm>

#include "arguments.h"
#include "arrays.h"
#include "bindings.h"
#include "fedagg/codec.h"

namespace fedagg::python {
namespace {

constexpr long most_classes = 65536;  // a class has two bytes

template <class T>
T* data_of(const py::array& array) {
    return static_cast<T*>(const_cast<void*>(array.data()));
}

template <class T>
const T* data_of(const Array& array) {
    return static_cast<const T*>(array.data);
}

py::array encode_f16(const py::object& x_NC) {
    const Array x = input_argument(x_NC.ptr(), "x_NC", {DType::f32}, 2, "float32 [N, C]");
    py::array out = new_array(DType::f16, {x.size(0), x.size(1)});
    const MaybeReleaseGil gil(x.size(0) * x.size(1) > small_call_elements);
    to_f16(data_of<float>(x), x.size(0) * x.size(1), data_of<std::uint16_t>(out));
    return out;
}

py::array decode_f16(const py::object& half_NC) {
    const Array x = input_argument(half_NC.ptr(), "half_NC", {DType::f16}, 2, "float16 [N, C]");
    py::array out = new_array(DType::f32, {x.size(0), x.size(1)});
    const MaybeReleaseGil gil(x.size(0) * x.size(1) > small_call_elements);
    from_f16(data_of<std::uint16_t>(x), x.size(0) * x.size(1), data_of<float>(out));
    return out;
}

py::tuple quantise(const py::object& x_NC) {
    const Array x = input_argument(x_NC.ptr(), "x_NC", {DType::f32}, 2, "float32 [N, C]");
    const std::size_t rows = x.size(0), classes = x.size(1);
    py::array values = new_array(DType::i8, {rows, classes}), scale = new_array(DType::f32, {rows});
    {
        const MaybeReleaseGil gil(rows * classes > small_call_elements);
        quantise_logits(data_of<float>(x), rows, classes, data_of<std::int8_t>(values), data_of<float>(scale));
    }
    return py::make_tuple(values, scale);
}

py::array dequantise(const py::object& values_NC, const py::object& scale_N) {
    const Array x = input_argument(values_NC.ptr(), "values_NC", {DType::i8}, 2, "int8 [N, C]");
    const Array scale = input_argument(scale_N.ptr(), "scale_N", {DType::f32}, 1, "float32 [N]");
    const std::size_t rows = x.size(0), classes = x.size(1);
    require_size(scale, 0, rows, "row scales");
    py::array out = new_array(DType::f32, {rows, classes});
    const MaybeReleaseGil gil(rows * classes > small_call_elements);
    dequantise_logits(data_of<std::int8_t>(x), data_of<float>(scale), rows, classes, data_of<float>(out));
    return out;
}

struct Affine {
    Affine(const py::object& low_D, const py::object& step_D, std::size_t channels)
        : low(input_argument(low_D.ptr(), "low_D", {DType::f32}, 1, "float32 [D]")),
          step(input_argument(step_D.ptr(), "step_D", {DType::f32}, 1, "float32 [D]")) {
        require_size(low, 0, channels, "channels");
        require_size(step, 0, channels, "channels");
    }
    Array low, step;
};

py::tuple keep_top_k(const py::object& x_NC, const py::object& wanted) {
    const Array x = input_argument(x_NC.ptr(), "x_NC", {DType::f32}, 2, "float32 [N, C]");
    const auto k = static_cast<std::size_t>(integer_argument(wanted.ptr(), "k", 1, std::clamp(static_cast<long>(x.size(1)), 1L, most_classes)));
    const std::size_t rows = x.size(0), kept = std::min(k, x.size(1));  // too large a k is refused below
    py::array classes = new_array(DType::u16, {rows, kept}), values = new_array(DType::f32, {rows, kept});
    py::array rest = new_array(DType::f32, {rows});
    {
        const MaybeReleaseGil gil(rows * x.size(1) > small_call_elements);
        encode_top_k(data_of<float>(x), rows, x.size(1), k, data_of<std::uint16_t>(classes), data_of<float>(values),
                     data_of<float>(rest));
    }
    return py::make_tuple(classes, values, rest);
}

py::array spread_top_k(const py::object& classes_NK, const py::object& values_NK, const py::object& rest_N,
                       const py::object& class_count) {
    const Array classes = input_argument(classes_NK.ptr(), "classes_NK", {DType::u16}, 2, "uint16 [N, K]");
    const Array values = input_argument(values_NK.ptr(), "values_NK", {DType::f32}, 2, "float32 [N, K]");
    const Array rest = input_argument(rest_N.ptr(), "rest_N", {DType::f32}, 1, "float32 [N]");
    const std::size_t rows = classes.size(0), k = classes.size(1);
    const auto count = static_cast<std::size_t>(integer_argument(class_count.ptr(), "class_count", 1, most_classes));
    require_size(values, 0, rows, "rows");
    require_size(values, 1, k, "classes");
    require_size(rest, 0, rows, "rows");
    py::array out = new_array(DType::f32, {rows, count});
    const MaybeReleaseGil gil(rows * count > small_call_elements);
    decode_top_k(data_of<std::uint16_t>(classes), data_of<float>(values), data_of<float>(rest), rows, count, k,
                 data_of<float>(out));
    return out;
}

Array bits_argument(const py::object& bits_D, std::size_t channels) {
    const Array bits = input_argument(bits_D.ptr(), "bits_D", {DType::u8}, 1, "uint8 [D]");
    require_size(bits, 0, channels, "channels");
    return bits;
}

py::array pack(const py::object& codes_ND, const py::object& bits_D) {
    const Array codes = input_argument(codes_ND.ptr(), "codes_ND", {DType::u8}, 2, "uint8 [N, D]");
    const std::size_t rows = codes.size(0), channels = codes.size(1);
    const Array bits = bits_argument(bits_D, channels);
    py::array out = new_array(DType::u8, {rows, packed_bytes(data_of<std::uint8_t>(bits), channels)});
    const MaybeReleaseGil gil(rows * channels > small_call_elements);
    pack_bits(data_of<std::uint8_t>(codes), data_of<std::uint8_t>(bits), rows, channels, data_of<std::uint8_t>(out));
    return out;
}

py::array unpack(const py::object& packed_NB, const py::object& bits_D) {
    const Array packed = input_argument(packed_NB.ptr(), "packed_NB", {DType::u8}, 2, "uint8 [N, B]");
    const Array bits = input_argument(bits_D.ptr(), "bits_D", {DType::u8}, 1, "uint8 [D]");
    const std::size_t rows = packed.size(0), channels = bits.size(0);
    require_size(packed, 1, packed_bytes(data_of<std::uint8_t>(bits), channels), "bytes");
    py::array out = new_array(DType::u8, {rows, channels});
    const MaybeReleaseGil gil(rows * channels > small_call_elements);
    unpack_bits(data_of<std::uint8_t>(packed), data_of<std::uint8_t>(bits), rows, channels, data_of<std::uint8_t>(out));
    return out;
}

py::array encode(const py::object& x_ND, const py::object& low_D, const py::object& step_D, const py::object& bits_D) {
    const Array x = input_argument(x_ND.ptr(), "x_ND", {DType::f32}, 2, "float32 [N, D]");
    const std::size_t rows = x.size(0), channels = x.size(1);
    const Affine map(low_D, step_D, channels);
    const Array bits = bits_D.is_none() ? Array() : bits_argument(bits_D, channels);
    py::array out = new_array(DType::u8, {rows, channels});
    const MaybeReleaseGil gil(rows * channels > small_call_elements);
    encode_affine(data_of<float>(x), data_of<float>(map.low), data_of<float>(map.step),
                  data_of<std::uint8_t>(bits), rows, channels, data_of<std::uint8_t>(out));
    return out;
}

py::array decode(const py::object& codes_ND, const py::object& low_D, const py::object& step_D) {
    const Array x = input_argument(codes_ND.ptr(), "codes_ND", {DType::u8}, 2, "uint8 [N, D]");
    const std::size_t rows = x.size(0), channels = x.size(1);
    const Affine map(low_D, step_D, channels);
    py::array out = new_array(DType::f32, {rows, channels});
    const MaybeReleaseGil gil(rows * channels > small_call_elements);
    decode_affine(data_of<std::uint8_t>(x), data_of<float>(map.low), data_of<float>(map.step), rows, channels,
                  data_of<float>(out));
    return out;
}

}  // namespace

void bind_codec(py::module_& module) {
    module.def("to_f16", &encode_f16, py::arg("x_NC"));
    module.def("from_f16", &decode_f16, py::arg("half_NC"));
    module.def("quantise_logits", &quantise, py::arg("x_NC"));
    module.def("dequantise_logits", &dequantise, py::arg("values_NC"), py::arg("scale_N"));
    module.def("encode_affine", &encode, py::arg("x_ND"), py::arg("low_D"), py::arg("step_D"),
               py::arg("bits_D") = py::none());
    module.def("encode_top_k", &keep_top_k, py::arg("x_NC"), py::arg("k"));
    module.def("decode_top_k", &spread_top_k, py::arg("classes_NK"), py::arg("values_NK"), py::arg("rest_N"),
               py::arg("class_count"));
    module.def("pack_bits", &pack, py::arg("codes_ND"), py::arg("bits_D"));
    module.def("unpack_bits", &unpack, py::arg("packed_NB"), py::arg("bits_D"));
    module.def("decode_affine", &decode, py::arg("codes_ND"), py::arg("low_D"), py::arg("step_D"));
}

}  // namespace fedagg::python
