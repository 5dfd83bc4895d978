"""The demonstration: translations that packages carry, a short training, what was learnt."""
