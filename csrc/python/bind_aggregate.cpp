#include <string>
#include <vector>

#include "arguments.h"
#include "arrays.h"
#include "bindings.h"
#include "fedagg/aggregate.h"
#include "logits.h"

namespace fedagg::python {
namespace {

Aggregation method_named(PyObject* name) {
    static constexpr struct {
        const char* name;
        Aggregation method;
    } methods[] = {{"mean_logits", Aggregation::mean_logits},
                   {"mean_probabilities", Aggregation::mean_probabilities},
                   {"entropy_weighted", Aggregation::entropy_weighted},
                   {"trimmed_mean", Aggregation::trimmed_mean},
                   {"median", Aggregation::median}};
    if (name == nullptr) return Aggregation::mean_logits;
    if (!PyUnicode_Check(name)) {
        throw py::type_error(std::string("method: got ") + Py_TYPE(name)->tp_name + ", expected a string");
    }
    for (const auto& known : methods) {
        if (PyUnicode_CompareWithASCIIString(name, known.name) == 0) return known.method;
    }
    throw py::value_error("method: got '" + py::str(py::handle(name)).cast<std::string>() +
                          "', expected 'mean_logits', 'mean_probabilities', 'entropy_weighted', 'trimmed_mean' or 'median'");
}

struct Teachers {
    std::vector<LogitsArgument> arguments;
    std::vector<Logits> logits;
    std::size_t rows = 0, classes = 0;
};

void read_teacher(Teachers& teachers, LogitsArgument& argument, bool is_first) {
    read_logits(argument, argument.owner.ptr(), "teachers");
    if (is_first) {
        teachers.rows = argument.values.size(0);
        teachers.classes = argument.values.size(1);
    }
    require_size(argument.values, 0, teachers.rows, "rows, like the first teacher,");
    require_size(argument.values, 1, teachers.classes, "classes, like the first teacher,");
    teachers.logits.push_back(argument.logits);
}

// "teachers: got ..." or "scale_N: got ..." with the teacher that it is about
std::string of_teacher(std::size_t k, const std::string& message) {
    static const std::string sequence = "teachers";
    const bool of_itself = message.compare(0, sequence.size(), sequence) == 0;
    return sequence + "[" + std::to_string(k) + "]" + (of_itself ? message.substr(sequence.size()) : "." + message);
}

void read_teachers(Teachers& teachers, PyObject* sequence) {
    if (sequence == nullptr || PySequence_Check(sequence) == 0 || PyUnicode_Check(sequence)) {
        throw py::type_error(std::string("teachers: got ") + (sequence == nullptr ? "none" : Py_TYPE(sequence)->tp_name) +
                             ", expected a sequence of arrays or QuantisedLogits");
    }
    const auto items = py::reinterpret_steal<py::object>(PySequence_Fast(sequence, "teachers: expected a sequence"));
    if (!items) throw py::error_already_set();
    const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr()));
    teachers.arguments.resize(count);
    teachers.logits.reserve(count);
    for (std::size_t k = 0; k < count; ++k) {
        LogitsArgument& argument = teachers.arguments[k];
        // asking a record for its attributes runs Python, which may shrink the list: the item is owned meanwhile
        if (k >= static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr()))) {
            throw py::value_error("teachers: got a sequence that changed while it was read, expected one that does not");
        }
        argument.owner = py::reinterpret_borrow<py::object>(PySequence_Fast_GET_ITEM(items.ptr(), static_cast<Py_ssize_t>(k)));
        try {
            read_teacher(teachers, argument, k == 0);
        } catch (const py::type_error& error) {
            throw py::type_error(of_teacher(k, error.what()));
        } catch (const py::value_error& error) {
            throw py::value_error(of_teacher(k, error.what()));
        }
    }
}

void read_weights(Array& array, PyObject* object, const char* name, DType dtype, int dimensions, const char* letters,
                  const Teachers& teachers) {
    if (!given(object)) return;
    read_input(array, object, name, {dtype}, dimensions, letters);
    require_size(array, 0, teachers.logits.size(), "teachers");
    if (dimensions == 2) require_size(array, 1, teachers.rows, "samples");
}

enum Slot : std::size_t { sequence, method, weights_K, sample_weights_KN, mask_KN, trim, out, threads, slot_count };

const Signature& signature() {
    static const char* const names[slot_count] = {"teachers", "method", "weights_K", "sample_weights_KN",
                                                  "mask_KN",  "trim",   "out",       "threads"};
    static const Signature value("aggregate_logits", 1, names);
    return value;
}

PyObject* aggregate(PyObject* const* slots) {
    const Aggregation aggregation = method_named(slots[method]);
    Teachers teachers;
    read_teachers(teachers, slots[sequence]);
    const std::size_t count = teachers.logits.size();
    Array weights, sample_weights, mask, target;
    read_weights(weights, slots[weights_K], "weights_K", DType::f32, 1, "float32 [K]", teachers);
    read_weights(sample_weights, slots[sample_weights_KN], "sample_weights_KN", DType::f32, 2, "float32 [K, N]", teachers);
    read_weights(mask, slots[mask_KN], "mask_KN", DType::boolean, 2, "bool [K, N]", teachers);
    const double share = number_argument(slots[trim], "trim", 0.25);
    const unsigned thread_count = threads_argument(slots[threads]);
    py::object result = given(slots[out]) ? py::reinterpret_borrow<py::object>(slots[out])
                                          : new_array(DType::f32, {teachers.rows, teachers.classes});
    read_input(target, result.ptr(), "out", {DType::f32}, 2, "float32 [N, C]");
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
    {
        const MaybeReleaseGil gil(count * teachers.rows * teachers.classes > small_call_elements);
        aggregate_logits(input, aggregation, share, thread_count, static_cast<float*>(target.data));
    }
    return result.release().ptr();
}

PyObject* aggregate_call(PyObject*, PyObject* const* arguments, Py_ssize_t count, PyObject* keywords) {
    return guarded([&] {
        PyObject* slots[slot_count];
        signature().parse(arguments, count, keywords, slots);
        return aggregate(slots);
    });
}

py::array confidence_of(const py::object& logits_NC) {
    const LogitsArgument z = logits_argument(logits_NC.ptr(), "logits_NC");
    py::array_t<float> out(static_cast<py::ssize_t>(z.values.size(0)));
    float* const to = out.mutable_data();
    {  // the result is handed over, and counted, under the GIL again
        const MaybeReleaseGil gil(z.values.size(0) * z.values.size(1) > small_call_elements);
        confidence(z.logits, z.values.size(0), z.values.size(1), to);
    }
    return out;
}

constexpr const char* documentation = R"(aggregate_logits($module, teachers, *, method='mean_logits', weights_K=None, sample_weights_KN=None, mask_KN=None, trim=0.25, out=None, threads=1)
--

Aggregate the logits that K teachers gave to the same N samples into float32 [N, C].

The weight of teacher k for sample n is weights_K[k] * sample_weights_KN[k, n] * mask_KN[k, n] (each 1 when not
given), normalised to sum to 1 over k. A teacher of weight 0 has no influence on that sample, even if its logits
are NaN.

- "mean_logits": sum_k w_kn z_knc
- "mean_probabilities": log(sum_k w_kn softmax(z_kn)_c), logits whose softmax is the mean of the softmaxes
- "entropy_weighted": mean_logits with w_kn * exp(-entropy(softmax(z_kn))): whoever is sure counts more
- "trimmed_mean": per class, the mean without the floor(trim * K) smallest and as many of the largest
- "median": per class, the middle value or the mean of the middle two

The last two count teachers instead of weighing them: there a weight only says whether a teacher takes part.

`out`, when given, receives the result and overlaps no input. Raises `ValueError` when there is no teacher, when a
weight is negative or not finite, when the weights of a sample sum to 0, or for a trim outside [0, 0.5).)";

PyMethodDef function = {"aggregate_logits", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(aggregate_call)),
                        METH_FASTCALL | METH_KEYWORDS, documentation};

}  // namespace

void bind_aggregate(py::module_& module) {
    module.attr("aggregate_logits") =
        py::reinterpret_steal<py::object>(PyCFunction_NewEx(&function, module.ptr(), py::str("fedagg_edge.kernels").ptr()));
    module.def("confidence", &confidence_of, py::arg("logits_NC"));
}

}  // namespace fedagg::python
