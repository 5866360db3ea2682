package fedagg.bridge.state;

/** So much waits for the parent already that new samples are refused, not dropped: offer them again later. */
public final class OutboxFullException extends Exception {
  private static final long serialVersionUID = 1L;

  OutboxFullException(String message) {
    super(message);
  }
}
