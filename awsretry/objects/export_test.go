package objects

import "github.com/seed-0f2c7998/perdure/awsretry/internal/source"

// SetStreamGrowth makes the parts of streams grow so.
func (s *Store) SetStreamGrowth(g source.Growth) { s.growth = g }

// SetCopyLimit makes objects of more than n bytes be copied in parts.
func (s *Store) SetCopyLimit(n int64) { s.copyLimit = n }

// SetMaxPages makes a listing of more than n pages an error.
func (s *Store) SetMaxPages(n int) { s.maxPages = n }
