package fedagg.bridge.agent;

/** A step or a state that cannot be used; the weights are as they were before. */
public final class TrainerException extends Exception {
  private static final long serialVersionUID = 1L;

  public TrainerException(String message) {
    super(message);
  }

  public TrainerException(String message, Throwable cause) {
    super(message, cause);
  }
}
