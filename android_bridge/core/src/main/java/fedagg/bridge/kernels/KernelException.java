package fedagg.bridge.kernels;

/** Whatever the native core refuses or fails with. The message says what was wrong and what was expected. */
public final class KernelException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  public KernelException(String message) {
    super(message);
  }

  KernelException(String message, Throwable cause) {
    super(message, cause);
  }
}
