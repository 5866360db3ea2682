// Logits as Python passes them: a float32 or float16 array, or a QuantisedLogits record of bytes and row scales.
#pragma once

#include "arrays.h"
#include "fedagg/types.h"

namespace fedagg::python {

struct LogitsArgument {
    Logits logits;
    Array values;
    Array row_scale;               // of QuantisedLogits only
    py::object owner;              // of a sequence's item, while its views are in use
    py::object keep_alive[2];      // attributes of QuantisedLogits are new references
    bool quantised() const { return logits.type == LogitType::i8; }
};

LogitsArgument logits_argument(PyObject* object, const char* name);
void read_logits(LogitsArgument& argument, PyObject* object, const char* name);

}  // namespace fedagg::python
