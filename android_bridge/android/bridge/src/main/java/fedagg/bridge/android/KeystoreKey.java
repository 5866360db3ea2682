package fedagg.bridge.android;

import android.security.keystore.KeyGenParameterSpec;
import android.security.keystore.KeyProperties;
import fedagg.bridge.identity.IdentityException;
import fedagg.bridge.identity.NodeKey;
import java.io.IOException;
import java.math.BigInteger;
import java.security.GeneralSecurityException;
import java.security.Key;
import java.security.KeyPairGenerator;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.ProviderException;
import java.security.PublicKey;
import java.security.cert.Certificate;
import java.security.interfaces.ECPublicKey;
import java.security.spec.ECGenParameterSpec;

/**
 * A node's P-256 key in Android's Keystore, which signs with it and never gives it away.
 *
 * <p>It signs texts by SHA-256 (proofs, renewals) and digests that were made already (TLS with a client certificate), so it
 * is made for both.
 */
public final class KeystoreKey implements NodeKey {
  private static final String STORE = "AndroidKeyStore";
  private static final BigInteger ORDER = // of P-256; other curves have as many bits
      new BigInteger("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16);

  private final PrivateKey privateKey;
  private final PublicKey publicKey;

  private KeystoreKey(PrivateKey privateKey, PublicKey publicKey) {
    this.privateKey = privateKey;
    this.publicKey = publicKey;
  }

  /** The key of this name; a new one, if there is none. A lost key is a lost identity: enrol again. */
  public static KeystoreKey open(String alias) throws IdentityException {
    try {
      KeyStore store = KeyStore.getInstance(STORE);
      store.load(null);
      if (!store.containsAlias(alias)) {
        make(alias);
      }
      Key key = store.getKey(alias, null);
      Certificate certificate = store.getCertificate(alias);
      if (!(key instanceof PrivateKey) || certificate == null || !isP256(certificate.getPublicKey())) {
        throw new IdentityException("key " + alias + ": got no P-256 key in the Keystore; delete the entry and enrol again");
      }
      return new KeystoreKey((PrivateKey) key, certificate.getPublicKey());
    } catch (GeneralSecurityException | IOException | ProviderException error) { // the last: what the hardware says
      throw new IdentityException("key " + alias + ": the Keystore cannot be used: " + error.getMessage(), error);
    }
  }

  private static boolean isP256(PublicKey key) {
    return key instanceof ECPublicKey && ((ECPublicKey) key).getParams().getOrder().equals(ORDER);
  }

  private static void make(String alias) throws GeneralSecurityException {
    KeyPairGenerator generator = KeyPairGenerator.getInstance(KeyProperties.KEY_ALGORITHM_EC, STORE);
    generator.initialize(
        new KeyGenParameterSpec.Builder(alias, KeyProperties.PURPOSE_SIGN)
            .setAlgorithmParameterSpec(new ECGenParameterSpec("secp256r1"))
            .setDigests(KeyProperties.DIGEST_SHA256, KeyProperties.DIGEST_NONE)
            .build());
    generator.generateKeyPair();
  }

  @Override
  public PrivateKey privateKey() {
    return privateKey;
  }

  @Override
  public PublicKey publicKey() {
    return publicKey;
  }
}
