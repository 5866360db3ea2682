#include "bindings.h"
#include "fedagg/pages.h"

namespace fedagg::python {

void bind_pages(pybind11::module_& module) {
    // without the GIL: it waits for the loader's lock, whose holder might wait for the GIL
    module.def("unmap_loaded_pages", &unmap_loaded_pages, pybind11::arg("seen"),
               pybind11::call_guard<pybind11::gil_scoped_release>());
}

}  // namespace fedagg::python
