package fedagg.bridge.identity;

/** A token, a key, a certificate or a server that is not what it must be. No message holds a token or a key. */
public final class IdentityException extends Exception {
  private static final long serialVersionUID = 1L;

  public IdentityException(String message) {
    super(message);
  }

  public IdentityException(String message, Throwable cause) {
    super(message, cause);
  }
}
