// distill_loss: checks what Python passed, calls the core. No mathematics here.
#include <algorithm>
#include <string>
#include <utility>

#include "arguments.h"
#include "arrays.h"
#include "bindings.h"
#include "fedagg/distill.h"
#include "logits.h"

namespace fedagg::python {
namespace {

PyTypeObject* result_type = nullptr;

enum Slot : std::size_t {
    student, teacher, labels, ce_weight, kl_weight, temperature, teacher_temperature, direction, mask, row_weights, out,
    threads, slot_count
};

const Signature& signature() {
    static const char* const names[slot_count] = {
        "student_NC", "teacher_NC", "labels_N", "ce_weight", "kl_weight", "temperature", "teacher_temperature",
        "direction", "mask_N", "row_weights_N", "out", "threads"};
    static const Signature value("distill_loss", 3, names);
    return value;
}

DistillOptions options_of(PyObject* const* slots) {
    DistillOptions options;
    options.ce_weight = number_argument(slots[ce_weight], "ce_weight", 1);
    options.kl_weight = number_argument(slots[kl_weight], "kl_weight", 0);
    options.temperature = number_argument(slots[temperature], "temperature", 3);
    options.teacher_temperature = given(slots[teacher_temperature])
                                      ? number_argument(slots[teacher_temperature], "teacher_temperature", 0)
                                      : options.temperature;
    options.threads = threads_argument(slots[threads]);
    if (slots[direction] != nullptr) {
        PyObject* const text = slots[direction];
        if (!PyUnicode_Check(text)) {
            throw py::type_error(std::string("direction: got ") + Py_TYPE(text)->tp_name + ", expected a string");
        }
        if (PyUnicode_CompareWithASCIIString(text, "student||teacher") == 0) {
            options.divergence = Divergence::reverse;
        } else if (PyUnicode_CompareWithASCIIString(text, "teacher||student") != 0) {
            throw py::value_error("direction: got '" + py::str(py::handle(text)).cast<std::string>() +
                                  "', expected 'teacher||student' or 'student||teacher'");
        }
    }
    return options;
}

// An optional per-row argument of the given dtype; null when none was given.
void read_row(Array& array, PyObject* object, const char* name, DType dtype, const char* letters, std::size_t rows) {
    if (!given(object)) return;
    read_input(array, object, name, {dtype}, 1, letters);
    require_size(array, 0, rows, "rows");
}

void read_output(Array& array, PyObject* object, const Array& like) {
    read_array(array, object, "out", "float32 [N, C]");
    require_dtype(array, {like.dtype});
    require_dimensions(array, 2, "[N, C] of the student");
    require_size(array, 0, like.size(0), "rows");
    require_size(array, 1, like.size(1), "classes");
    require_contiguous(array);
    require_writable(array);
    if (!same_memory(array, like)) require_apart(array, like);
}

// PyStructSequence_New would ask the type's dictionary for the number of its fields, every time.
PyObject* new_result(const DistillLoss& loss, py::object gradient) {
    py::object result =
        py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(PyObject_GC_NewVar(PyStructSequence, result_type, 4)));
    if (!result) throw py::error_already_set();
    PyObject** const items = reinterpret_cast<PyStructSequence*>(result.ptr())->ob_item;
    std::fill_n(items, 4, nullptr);
    const double numbers[] = {loss.loss, loss.ce, loss.kl};
    for (std::size_t i = 0; i < 3; ++i) {
        items[i] = PyFloat_FromDouble(numbers[i]);
        if (items[i] == nullptr) throw py::error_already_set();
    }
    items[3] = gradient.release().ptr();
    return result.release().ptr();
}

template <class Real>
PyObject* run(PyObject* const* slots, const Array& student_array) {
    const std::size_t rows = student_array.size(0), classes = student_array.size(1);
    const DistillOptions options = options_of(slots);
    DistillInput<Real> input;
    input.student = static_cast<const Real*>(student_array.data);
    input.rows = rows;
    input.classes = classes;
    LogitsArgument teacher_logits;
    if (given(slots[teacher])) {
        if constexpr (sizeof(Real) == sizeof(double)) {
            teacher_logits.values = input_argument(slots[teacher], "teacher_NC", {DType::f64}, 2, "float64 [N, C] like the student");
            teacher_logits.logits = {teacher_logits.values.data, LogitType::f64, nullptr};
        } else {
            read_logits(teacher_logits, slots[teacher], "teacher_NC");
        }
        require_size(teacher_logits.values, 0, rows, "rows");
        require_size(teacher_logits.values, 1, classes, "classes");
        input.teacher = teacher_logits.logits;
    }
    Array label_array, mask_array, weight_array;
    read_row(label_array, slots[labels], "labels_N", DType::i64, "int64 [N]", rows);
    read_row(mask_array, slots[mask], "mask_N", DType::boolean, "bool [N]", rows);
    read_row(weight_array, slots[row_weights], "row_weights_N", DType::f32, "float32 [N]", rows);
    input.labels = static_cast<const std::int64_t*>(label_array.data);
    input.mask = static_cast<const std::uint8_t*>(mask_array.data);
    input.row_weights = static_cast<const float*>(weight_array.data);

    py::object gradient;
    Array out_array;
    if (given(slots[out])) {
        read_output(out_array, slots[out], student_array);
        const Array* const inputs[] = {&teacher_logits.values, &teacher_logits.row_scale, &label_array, &mask_array,
                                       &weight_array};
        for (const Array* other : inputs) {
            if (other->data != nullptr) require_apart(out_array, *other);
        }
        gradient = py::reinterpret_borrow<py::object>(slots[out]);
    } else {
        gradient = new_array_like(student_array);
        read_array(out_array, gradient.ptr(), "out", "");
    }
    DistillLoss loss;
    {
        const MaybeReleaseGil gil(rows * classes > small_call_elements);
        loss = distill_loss(input, options, static_cast<Real*>(out_array.data));
    }
    return new_result(loss, std::move(gradient));
}

PyObject* distill_loss_call(PyObject*, PyObject* const* arguments, Py_ssize_t count, PyObject* keywords) {
    return guarded([&] {
        PyObject* slots[slot_count];
        signature().parse(arguments, count, keywords, slots);
        if (slots[student] == nullptr) throw py::type_error("distill_loss: got no student_NC, expected float32 [N, C]");
        const Array array = input_argument(slots[student], "student_NC", {DType::f32, DType::f64}, 2, "float32 [N, C]");
        return array.dtype == DType::f64 ? run<double>(slots, array) : run<float>(slots, array);
    });
}

constexpr const char* documentation = R"(distill_loss($module, student_NC, teacher_NC=None, labels_N=None, *, ce_weight=1.0, kl_weight=0.0, temperature=3.0, teacher_temperature=None, direction='teacher||student', mask_N=None, row_weights_N=None, out=None, threads=1)
--

Return the distillation loss of one batch and its gradient (arXiv 2312.11489, eq. 2).

    loss = ce_weight * mean CE(softmax(student), labels)
         + kl_weight * mean KL(softmax(teacher / teacher_temperature) || softmax(student / temperature))

or, for direction "student||teacher", the KL the other way round. There is no hidden temperature**2: Hinton's form
is kl_weight = beta * temperature**2. The paper's print, a temperature on the teacher only, is temperature=1 with
teacher_temperature=T. Means are taken over the rows that count, sums in float64; no row, no loss: 0.0.

Arrays are numpy's or, read through DLPack without a copy, torch's in CPU memory; without `out` the gradient is of the
student's library. A tensor that requires gradients is read like any other: detach it to say so.

student_NC: float32 [N, C], or float64, which runs the scalar kernel in double (for gradient checks).
teacher_NC: float32 or float16 [N, C] or QuantisedLogits, read in place; float64 beside a float64 student.
labels_N: int64 [N]. Without labels ce_weight must be 0, without a teacher kl_weight must be 0.
teacher_temperature: as temperature when not given.
mask_N: bool [N]. A row whose mask is False gets gradient 0 and counts in no mean, whatever it holds.
row_weights_N: float32 [N], 0 or more: a weighted mean instead of a plain one.
out: receives the gradient; may be student_NC itself, and overlaps no other input.
threads: the most threads to use; batches below some 100 000 elements run on one.

Raises TypeError for a wrong dtype and ValueError for a wrong shape, a label outside [0, C), an array that is not
C-contiguous, or an option out of range; `out` is then untouched. A NaN in a row makes the loss and that row's
gradient NaN.)";

PyMethodDef method = {"distill_loss", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(distill_loss_call)),
                      METH_FASTCALL | METH_KEYWORDS, documentation};

PyStructSequence_Field fields[] = {{"loss", "ce_weight * ce + kl_weight * kl"},
                                   {"ce", "mean cross-entropy"},
                                   {"kl", "mean divergence"},
                                   {"gradient_NC", "d loss / d student"},
                                   {nullptr, nullptr}};
PyStructSequence_Desc description = {"fedagg_edge.kernels.DistillLoss",
                                     "The distillation loss of one batch and its gradient.", fields, 4};

}  // namespace

void bind_distill(py::module_& module) {
    if (result_type == nullptr) result_type = PyStructSequence_NewType(&description);
    if (result_type == nullptr) throw py::error_already_set();
    module.attr("DistillLoss") = py::handle(reinterpret_cast<PyObject*>(result_type));
    module.attr("distill_loss") = py::reinterpret_steal<py::object>(PyCFunction_NewEx(&method, module.ptr(), py::str("fedagg_edge.kernels").ptr()));
}

}  // namespace fedagg::python
