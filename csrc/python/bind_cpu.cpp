#include <pybind11/stl.h>

#include "bindings.h"
#include "fedagg/cpu.h"

namespace fedagg::python {

void bind_cpu(pybind11::module_& module) {
    active_kernels();  // a wrong FEDAGG_FORCE_ISA is an error now, not at the first call
    module.def("active_isa", [] { return active_kernels().name; });
    module.def("active_isa_reason", &active_isa_reason);
    module.def("set_active_isa", &set_active_isa, pybind11::arg("isa"));
    module.def("available_isas", [] {
        pybind11::tuple names(available_kernels().size());
        for (std::size_t i = 0; i < names.size(); ++i) names[i] = available_kernels()[i]->name;
        return names;
    });
}

}  // namespace fedagg::python
