#include "arguments.h"

#include <algorithm>
#include <string>

namespace fedagg::python {

std::size_t Signature::slot_of(PyObject* keyword) const {
    for (std::size_t i = 0; i < count_; ++i) {
        if (names_[i] == keyword) return i;
    }
    for (std::size_t i = 0; i < count_; ++i) {  // a name built at run time is not interned
        if (PyUnicode_Compare(names_[i], keyword) == 0) return i;
    }
    throw py::type_error(std::string(function_) + ": got an unexpected argument '" +
                         py::str(py::handle(keyword)).cast<std::string>() + "'");
}

void Signature::parse(PyObject* const* arguments, Py_ssize_t count, PyObject* keywords, PyObject** slots) const {
    if (static_cast<std::size_t>(count) > positional_) {
        throw py::type_error(std::string(function_) + ": got " + std::to_string(count) +
                             " positional arguments, expected at most " + std::to_string(positional_));
    }
    std::fill_n(slots, count_, nullptr);
    std::copy_n(arguments, count, slots);
    const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < named; ++i) {
        PyObject* const keyword = PyTuple_GET_ITEM(keywords, i);
        PyObject*& slot = slots[slot_of(keyword)];
        if (slot != nullptr) {
            throw py::type_error(std::string(function_) + ": got '" + py::str(py::handle(keyword)).cast<std::string>() +
                                 "' twice");
        }
        slot = arguments[count + i];
    }
}

double number_argument(PyObject* object, const char* name, double otherwise) {
    if (object == nullptr) return otherwise;
    if (PyFloat_CheckExact(object)) return PyFloat_AS_DOUBLE(object);
    const double value = PyFloat_AsDouble(object);
    if (value == -1.0 && PyErr_Occurred() != nullptr) {
        const bool too_long = PyErr_ExceptionMatches(PyExc_OverflowError) != 0;
        PyErr_Clear();
        if (too_long) throw py::value_error(std::string(name) + ": got an integer beyond what a float holds, expected a number");
        throw py::type_error(std::string(name) + ": got " + Py_TYPE(object)->tp_name + ", expected a number");
    }
    return value;
}

long integer_argument(PyObject* object, const char* name, long least, long most) {
    const long value = PyLong_AsLong(object);
    const bool failed = value == -1 && PyErr_Occurred() != nullptr;
    const bool too_long = failed && PyErr_ExceptionMatches(PyExc_OverflowError) != 0;
    if (failed) PyErr_Clear();
    if (failed && !too_long) {
        throw py::type_error(std::string(name) + ": got " + Py_TYPE(object)->tp_name + ", expected an integer");
    }
    if (failed || value < least || value > most) {
        throw py::value_error(std::string(name) + ": got " + py::str(py::handle(object)).cast<std::string>() +
                              ", expected " + std::to_string(least) + " to " + std::to_string(most));
    }
    return value;
}

unsigned threads_argument(PyObject* object) {
    return object == nullptr ? 1U : static_cast<unsigned>(integer_argument(object, "threads", 1, 1024));
}

}  // namespace fedagg::python
