package fedagg.bridge.identity;

import java.security.GeneralSecurityException;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.Signature;

/** A node's P-256 key pair, wherever it is kept: a file ({@link FileKey}), or Android's Keystore, which never gives it. */
public interface NodeKey {
  PrivateKey privateKey();

  PublicKey publicKey();

  /** SubjectPublicKeyInfo in DER, 91 bytes. */
  default byte[] publicDer() {
    return publicKey().getEncoded();
  }

  /** An ECDSA signature with SHA-256, DER. */
  default byte[] sign(byte[] text) throws IdentityException {
    try {
      Signature signer = Signature.getInstance("SHA256withECDSA");
      signer.initSign(privateKey());
      signer.update(text);
      return signer.sign();
    } catch (GeneralSecurityException error) {
      throw new IdentityException("key: cannot sign: " + error.getMessage(), error);
    }
  }
}
