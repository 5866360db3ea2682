// One function per subject; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace fedagg::python {

void bind_aggregate(pybind11::module_& module);
void bind_codec(pybind11::module_& module);
void bind_cpu(pybind11::module_& module);
void bind_distill(pybind11::module_& module);
void bind_pages(pybind11::module_& module);
void bind_sgd(pybind11::module_& module);

}  // namespace fedagg::python
