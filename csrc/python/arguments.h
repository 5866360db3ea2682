// Arguments of the hot calls under METH_FASTCALL | METH_KEYWORDS: no tuple, no dictionary, no conversion objects.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>

namespace fedagg::python {

namespace py = pybind11;

// The names of a function's parameters, interned once; the first `positional` may be passed by position.
class Signature {
public:
    static constexpr std::size_t most = 16;

    template <std::size_t count>
    Signature(const char* function, std::size_t positional, const char* const (&names)[count])
        : function_(function), positional_(positional), count_(count) {
        static_assert(count <= most, "raise Signature::most");
        for (std::size_t i = 0; i < count; ++i) names_[i] = PyUnicode_InternFromString(names[i]);
    }

    // Puts every argument into its slot, nullptr where none was given. Throws TypeError for an argument that does not
    // exist or came twice.
    void parse(PyObject* const* arguments, Py_ssize_t count, PyObject* keywords, PyObject** slots) const;

private:
    std::size_t slot_of(PyObject* keyword) const;

    const char* function_;
    std::size_t positional_;
    std::size_t count_;
    PyObject* names_[most] = {};
};

// A number given for `name`, or `otherwise` when none was given. Throws TypeError for anything that is not a number.
double number_argument(PyObject* object, const char* name, double otherwise);
// From `least` to `most`; throws TypeError for what is no integer, ValueError outside.
long integer_argument(PyObject* object, const char* name, long least, long most);
// At least 1; throws ValueError below.
unsigned threads_argument(PyObject* object);

inline bool given(const PyObject* object) { return object != nullptr && object != Py_None; }

// Turns whatever the body throws into a Python exception: what a METH_FASTCALL function returns to the interpreter.
template <class Body>
PyObject* guarded(const Body& body) {
    try {
        return body();
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (const py::builtin_exception& error) {
        error.set_error();
    } catch (const std::invalid_argument& error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
}

// Releases the GIL for its lifetime when asked to; small calls keep it, since handing it over costs more than they do.
class MaybeReleaseGil {
public:
    explicit MaybeReleaseGil(bool release) : state_(release ? PyEval_SaveThread() : nullptr) {}
    ~MaybeReleaseGil() {
        if (state_ != nullptr) PyEval_RestoreThread(state_);
    }
    MaybeReleaseGil(const MaybeReleaseGil&) = delete;
    MaybeReleaseGil& operator=(const MaybeReleaseGil&) = delete;

private:
    PyThreadState* state_;
};

constexpr std::size_t small_call_elements = 16384;

}  // namespace fedagg::python
