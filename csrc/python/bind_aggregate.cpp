#include <string>
#include <vector>

#include "arguments.h"
#include "arrays.h"
#include "bindings.h"
#include "fedagg/aggregate.h"
#include "logits.h"

namespace fedagg::python {
namespace {

Aggregation method_named(const std::string& name) {
    if (name == "mean_logits") return Aggregation::mean_logits;
    if (name == "mean_probabilities") return Aggregation::mean_probabilities;
    if (name == "entropy_weighted") return Aggregation::entropy_weighted;
    if (name == "trimmed_mean") return Aggregation::trimmed_mean;
    if (name == "median") return Aggregation::median;
    throw py::value_error("method: got '" + name +
                          "', expected 'mean_logits', 'mean_probabilities', 'entropy_weighted', 'trimmed_mean' or 'median'");
}

struct Teachers {
    std::vector<LogitsArgument> arguments;
    std::vector<Logits> logits;
    std::size_t rows = 0, classes = 0;
};

Teachers teachers_of(const py::object& sequence) {
    if (!PySequence_Check(sequence.ptr()) || py::isinstance<py::str>(sequence)) {
        throw py::type_error(std::string("teachers: got ") + Py_TYPE(sequence.ptr())->tp_name +
                             ", expected a sequence of arrays or QuantisedLogits");
    }
    Teachers teachers;
    for (const py::handle item : sequence) {
        teachers.arguments.push_back(logits_argument(item.ptr(), "teachers"));
        const Array& values = teachers.arguments.back().values;
        if (teachers.logits.empty()) {
            teachers.rows = values.size(0);
            teachers.classes = values.size(1);
        }
        require_size(values, 0, teachers.rows, "rows, like the first teacher,");
        require_size(values, 1, teachers.classes, "classes, like the first teacher,");
        teachers.logits.push_back(teachers.arguments.back().logits);
    }
    return teachers;
}

Array weights_of(const py::object& object, const char* name, DType dtype, int dimensions, const char* letters,
                 std::size_t teachers, std::size_t rows) {
    if (object.is_none()) return {};
    const Array array = input_argument(object.ptr(), name, {dtype}, dimensions, letters);
    require_size(array, 0, teachers, "teachers");
    if (dimensions == 2) require_size(array, 1, rows, "samples");
    return array;
}

py::object aggregate(const py::object& sequence, const std::string& method, const py::object& weights_K,
                     const py::object& sample_weights_KN, const py::object& mask_KN, const py::object& out,
                     double trim, const py::object& threads) {
    const Aggregation aggregation = method_named(method);
    const Teachers teachers = teachers_of(sequence);
    const std::size_t count = teachers.logits.size();
    const Array weights = weights_of(weights_K, "weights_K", DType::f32, 1, "float32 [K]", count, 0);
    const Array sample_weights =
        weights_of(sample_weights_KN, "sample_weights_KN", DType::f32, 2, "float32 [K, N]", count, teachers.rows);
    const Array mask = weights_of(mask_KN, "mask_KN", DType::boolean, 2, "bool [K, N]", count, teachers.rows);
    py::object result = out;
    if (out.is_none()) result = new_array(DType::f32, {teachers.rows, teachers.classes});
    const Array target = input_argument(result.ptr(), "out", {DType::f32}, 2, "float32 [N, C]");
    require_size(target, 0, teachers.rows, "rows");
    require_size(target, 1, teachers.classes, "classes");
    require_writable(target);
    for (const LogitsArgument& teacher : teachers.arguments) {
        require_apart(target, teacher.values);
        if (teacher.quantised()) require_apart(target, teacher.row_scale);
    }
    for (const Array* other : {&weights, &sample_weights, &mask}) {
        if (other->data != nullptr) require_apart(target, *other);
    }

    AggregateInput input;
    input.teachers = teachers.logits.data();
    input.teacher_count = count;
    input.rows = teachers.rows;
    input.classes = teachers.classes;
    input.teacher_weights = static_cast<const float*>(weights.data);
    input.sample_weights = static_cast<const float*>(sample_weights.data);
    input.mask = static_cast<const std::uint8_t*>(mask.data);
    const unsigned thread_count = threads_argument(threads.ptr());
    {
        const MaybeReleaseGil gil(count * teachers.rows * teachers.classes > small_call_elements);
        aggregate_logits(input, aggregation, trim, thread_count, static_cast<float*>(target.data));
    }
    return result;
}

py::array confidence_of(const py::object& logits_NC) {
    const LogitsArgument z = logits_argument(logits_NC.ptr(), "logits_NC");
    py::array_t<float> out(static_cast<py::ssize_t>(z.values.size(0)));
    float* const to = out.mutable_data();
    const MaybeReleaseGil gil(z.values.size(0) * z.values.size(1) > small_call_elements);
    confidence(z.logits, z.values.size(0), z.values.size(1), to);
    return out;
}

}  // namespace

void bind_aggregate(py::module_& module) {
    module.def("aggregate_logits", &aggregate, py::arg("teachers"), py::kw_only(), py::arg("method") = "mean_logits",
               py::arg("weights_K") = py::none(), py::arg("sample_weights_KN") = py::none(),
               py::arg("mask_KN") = py::none(), py::arg("out") = py::none(), py::arg("trim") = 0.25,
               py::arg("threads") = 1);
    module.def("confidence", &confidence_of, py::arg("logits_NC"));
}

}  // namespace fedagg::python
