"""Studies: several methods at equal budgets, over several seeds, and a report that says what may be said of them."""
