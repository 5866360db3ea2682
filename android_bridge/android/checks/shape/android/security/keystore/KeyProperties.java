package android.security.keystore;

/** Not Android's class: the constants that KeystoreKey uses, as its documentation gives them. */
public abstract class KeyProperties {
  public static final String DIGEST_NONE = "NONE";
  public static final String DIGEST_SHA256 = "SHA-256";
  public static final String KEY_ALGORITHM_EC = "EC";
  public static final int PURPOSE_SIGN = 4;

  private KeyProperties() {}
}
