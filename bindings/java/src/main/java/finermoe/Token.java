package finermoe;

/**
 * One token of a tokenizer.
 *
 * @param bytes need not be whole UTF-8 characters
 * @param kind  what kind of token it is
 */
public record Token(byte[] bytes, TokenKind kind) {}
