package main

import (
	"math/rand/v2"
	"testing"
)

func TestOursIsWholeOrSaysSo(t *testing.T) {
	for _, c := range clients(t.TempDir())[:2] {
		for _, replaced := range []bool{false, true} {
			got, err := tallyOf(c, 30, rand.Uint64(), replaced)
			if err != nil || got.wrong > 0 || !replaced && got.identical != 30 {
				t.Errorf("%s, replaced %t: %+v, %v", c.name, replaced, got, err)
			}
		}
	}
}
