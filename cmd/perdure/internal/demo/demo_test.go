package demo

import (
	"os"
	"testing"
)

func TestLook(t *testing.T) {
	if err := Run(t.Context(), Options{Seed: 1, Screen: NewScreen(os.Stdout, false)}); err != nil {
		t.Fatal(err)
	}
}
