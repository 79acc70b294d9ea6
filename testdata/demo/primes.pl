# Prints the primes below the number given.
my $limit = shift // 100;
N: for my $n (2 .. $limit - 1) {
    for (my $d = 2; $d * $d <= $n; $d++) { next N if $n % $d == 0 }
    print "$n\n";
}
