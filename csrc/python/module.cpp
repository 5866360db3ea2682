// fedagg_edge._core: the table of contents.
#include "bindings.h"

PYBIND11_MODULE(_core, module) {
    module.doc() = "The C++ core. Import fedagg_edge.kernels instead, for all that computes.";
    fedagg::python::bind_cpu(module);
    fedagg::python::bind_distill(module);
    fedagg::python::bind_aggregate(module);
    fedagg::python::bind_codec(module);
    fedagg::python::bind_pages(module);
    fedagg::python::bind_sgd(module);
}
