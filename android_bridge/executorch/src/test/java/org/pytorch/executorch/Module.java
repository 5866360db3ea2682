package org.pytorch.executorch;

/**
 * Not ExecuTorch's class: its public shape, as far as ExecutorchTrainer uses it, written from its documentation, so that the
 * adapter compiles and is tested where the library is not to be had. The real one is made by {@code load}.
 */
public abstract class Module {
  public abstract EValue[] execute(String methodName, EValue... inputs);

  public abstract void destroy();
}
