package main

import (
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

func TestOursIsWholeOrSaysSo(t *testing.T) {
	for _, c := range clients(t.TempDir())[:2] {
		for _, replaced := range []bool{false, true} {
			got, err := tallyOf(c, 30, testseed.Of(t, 1), replaced)
			if err != nil || got.wrong > 0 || !replaced && got.identical != 30 {
				t.Errorf("%s, replaced %t: %+v, %v", c.name, replaced, got, err)
			}
		}
	}
}
