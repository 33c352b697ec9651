"""The methods: one LightningModule each."""
