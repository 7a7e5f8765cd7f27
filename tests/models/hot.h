/* Where a verifier that spin wrote spends its time: once for each state, and optimized although the rest is not. */
void d_sfh(unsigned char *, int) __attribute__((optimize("O2")));
int compress(char *, int) __attribute__((optimize("O2")));
int h_store(char *, int) __attribute__((optimize("O2")));
