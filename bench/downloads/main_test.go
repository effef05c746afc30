package main

import (
	"math/rand/v2"
	"testing"
)

func TestOursIsWholeOrSaysSo(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		got, err := tallyOf(clients(t.TempDir())[0], 30, rand.Uint64(), replaced)
		if err != nil || got.wrong > 0 || !replaced && got.identical != 30 {
			t.Errorf("replaced %t: %+v, %v", replaced, got, err)
		}
	}
}
