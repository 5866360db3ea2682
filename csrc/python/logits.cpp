#include "logits.h"

namespace fedagg::python {

void read_logits(LogitsArgument& argument, PyObject* object, const char* name) {
    // an array is by far the commoner case, and asking it for an attribute that it lacks costs more than the kernel
    const bool may_be_record = !is_array(object);
    if (may_be_record && PyObject_HasAttrString(object, "values_NC") != 0 &&
        PyObject_HasAttrString(object, "scale_N") != 0) {
        argument.keep_alive[0] = py::handle(object).attr("values_NC");
        argument.keep_alive[1] = py::handle(object).attr("scale_N");
        argument.values = input_argument(argument.keep_alive[0].ptr(), "values_NC", {DType::i8}, 2, "int8 [N, C]");
        argument.row_scale = input_argument(argument.keep_alive[1].ptr(), "scale_N", {DType::f32}, 1, "float32 [N]");
        require_size(argument.row_scale, 0, argument.values.size(0), "row scales");
        argument.logits = {argument.values.data, LogitType::i8, static_cast<const float*>(argument.row_scale.data)};
        return;
    }
    read_input(argument.values, object, name, {DType::f32, DType::f16}, 2, "float32 or float16 [N, C], or QuantisedLogits");
    argument.logits.data = argument.values.data;
    argument.logits.type = argument.values.dtype == DType::f16 ? LogitType::f16 : LogitType::f32;
}

LogitsArgument logits_argument(PyObject* object, const char* name) {
    LogitsArgument argument;
    read_logits(argument, object, name);
    return argument;
}

}  // namespace fedagg::python
