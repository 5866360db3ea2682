package org.pytorch.executorch;

/** Not ExecuTorch's: see Module of this folder. */
public enum DType {
  UINT8,
  INT64,
  FLOAT,
  BOOL
}
